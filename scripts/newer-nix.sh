#!/usr/bin/env bash
# Makes a newer Nix than this release of Debian has, without installing it: packages of a later release are unpacked into a
# folder, and its `nix` is told to use the libraries there. Prints the folder to put first on PATH.
#
#   scripts/newer-nix.sh FOLDER [RELEASE]
#
# The packages come from the mirror that apt uses already. On other systems than Debian there is none of that kind: then, and
# when anything else goes wrong, it says so and ends with exit code 1.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath --canonicalize-missing "$1")
release=${2:-forky}

fail() {
  echo "newer-nix: $1" >&2
  exit 1
}

if "$folder/bin/nix" --version >/dev/null 2>&1; then
  echo "$folder/bin"
  exit 0
fi

. /etc/os-release
[ "${ID:-}" = debian ] || fail "this is not Debian (${PRETTY_NAME:-unknown}): the tests run with the installed Nix only."
[ "$(id -u)" -eq 0 ] || fail "root is needed to unpack the packages: the tests run with the installed Nix only."
"$here/setup.sh" mmdebstrap patchelf >&2 || fail "mmdebstrap and patchelf cannot be installed."

# apt knows its own mirrors, in whichever form they are written down; that of security updates has no later release.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1) || true
[ -n "$mirror" ] || fail "apt has no mirror from which Debian $release could come."

rm -rf "$folder" "$folder.new"
mkdir -p "$folder.new"
log=$folder.log
mmdebstrap --mode=root --variant=extract --include=nix-bin --aptopt='Acquire::Check-Valid-Until "false"' \
  --aptopt='Acquire::Retries "3"' --aptopt='APT::Install-Recommends "false"' \
  "$release" "$folder.new/root" "deb $mirror $release main" >"$log" 2>&1 ||
  fail "Debian $release is not available from apt's mirror; $log says why."

# The program is looked for by its final path, so that path is what the libraries' folder is named by.
libraries=$(cd "$folder.new/root" && echo usr/lib/*-linux-gnu)
loader=$(patchelf --print-interpreter "$folder.new/root/usr/bin/nix")
loader=$(basename "$loader")
mkdir "$folder.new/bin"
cp "$folder.new/root/usr/bin/nix" "$folder.new/bin/nix"
patchelf --set-interpreter "$folder/root/$libraries/$loader" --force-rpath \
  --set-rpath "$folder/root/$libraries:$folder/root/$libraries/nix" "$folder.new/bin/nix"
for name in nix-store nix-build nix-instantiate nix-env nix-collect-garbage nix-hash; do
  ln -s nix "$folder.new/bin/$name"
done
mv "$folder.new" "$folder"
"$folder/bin/nix" --version >&2 || fail "the Nix of Debian $release does not run here."
echo "$folder/bin"
