#!/usr/bin/env bash
# Makes the store that is measured: real derivations over the contents of real Debian packages, in several states.
#
#   benches/compare/make-store.sh FOLDER [large|small]
#
# FOLDER/store is a store root (as `nix --store` takes it) that holds every state, and FOLDER/states.json names the paths of
# each: `base`, `changed` (5 % of the packages and bytes rebuilt), `bump` (a lock bump, 30 % rebuilt), `commit-1` to
# `commit-10`. What is finished is used again. The packages come from the mirrors that apt uses; nothing is installed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
case ${2:-large} in
  large)
    # Compilers, interpreters, fonts, documentation, and many small files: about 400 packages, 3 GB.
    wanted="g++-12 clang-14 python3-scipy python3-pandas python3-sphinx ansible rustc cargo openjdk-17-jdk-headless
      texlive-latex-recommended texlive-fonts-recommended emacs-nox vim-nox gdb cmake git linux-headers-amd64
      fonts-noto-core postgresql-15 r-base-core erlang-base imagemagick nodejs"
    ;;
  small) wanted="git python3-yaml less nano openssl vim-tiny bc" ;;
  *)
    echo "make-store: $2 is not a size of a store: large or small." >&2
    exit 2
    ;;
esac
if [ -f "$folder/states.json" ]; then
  exit 0
fi
[ "$(id -u)" -eq 0 ] || { echo "make-store: root is needed, for builds in a store of their own." >&2; exit 1; }

# The names above are Debian 12's; elsewhere those that are missing are left out.
known=$(for name in $wanted; do apt-cache show --no-all-versions "$name" >/dev/null 2>&1 && echo "$name"; done) || true
rm -rf "$folder/debs" "$folder/unpacked"
mkdir -p "$folder/debs/partial" "$folder/source/tools"
: >"$folder/nothing-installed"
# With no package installed, apt resolves the whole closure.
# shellcheck disable=SC2086 # a list of names
apt-get -qq --yes --download-only --option Dir::State::status="$folder/nothing-installed" \
  --option Dir::Cache::archives="$folder/debs" --option APT::Sandbox::User=root --option Debug::NoLocking=1 \
  --option APT::Install-Recommends=false --option Acquire::Retries=3 install $known

nice python3 "$here/store/packages.py" "$folder" >"$folder/source/packages.json"
cp "$here/store/store.nix" "$here/store/build.sh" "$folder/source/"
cp /bin/busybox "$folder/source/tools/"

# Builds in a store of their own are sandboxed; the unpacked packages are let in.
export NIX_CONFIG="experimental-features = nix-command flakes
substituters =
build-users-group =
max-jobs = 2
sandbox-paths = /unpacked=$folder/unpacked"
export NIX_CONF_DIR=$folder/nothing NIX_USER_CONF_FILES=
rm -rf "$folder/store"
nice python3 "$here/store/states.py" "$folder"
chmod -R u+w "$folder/unpacked"
rm -rf "$folder/unpacked"
