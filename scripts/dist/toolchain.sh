#!/usr/bin/env bash
# Unpacks Debian 12's newest Rust for both processors into a folder of its own, and installs what it runs with: nothing of the
# machine's own Rust is used, changed or put out of the way. Prints nothing but trouble. Downloads some 100 MB once.
#
#   scripts/dist/toolchain.sh FOLDER
#
# Afterwards FOLDER/root/usr/bin has rustc and cargo, and FOLDER/versions what everything is.
#
# Why Debian's: it is the only Rust with a standard library for aarch64 that can be had from where Debian packages come from.
# rustc-web follows Rust's releases, for the browsers of Debian 12. Both binaries come from the same compiler.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(realpath --canonicalize-missing "$1")

fail() {
  echo "toolchain: $1" >&2
  exit 1
}

. /etc/os-release
[ "${ID:-} ${VERSION_ID:-}" = "debian 12" ] ||
  fail "this is ${PRETTY_NAME:-unknown}, and the compilers and libraries of Debian 12 end up in the binaries. Use a Debian 12, as in a container."
[ "$(dpkg --print-architecture)" = amd64 ] || fail "an x86_64 machine is needed: the aarch64 binary is cross-compiled on one."

"$here/setup.sh" gcc libc6-dev binutils gcc-aarch64-linux-gnu libc6-dev-arm64-cross dpkg-dev debian-archive-keyring >&2

apt_folder=$folder/apt
mkdir -p "$apt_folder/lists/partial" "$apt_folder/cache/archives/partial"
# The machine's own mirrors of Debian, in whichever form they are written down, for both processors.
apt-get indextargets --format \
  'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(RELEASE) $(COMPONENT)' \
  'Created-By: Packages' 'Origin: Debian' | sort -u >"$apt_folder/sources.list"
[ -s "$apt_folder/sources.list" ] || fail "apt knows no mirror of Debian. Run \`apt-get update\` first."
apt=(-o "Dir::State::lists=$apt_folder/lists" -o "Dir::Cache=$apt_folder/cache" -o "Dir::Etc::sourcelist=$apt_folder/sources.list"
  -o Dir::Etc::sourceparts=- -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
  -o APT::Sandbox::User=root -o Acquire::Retries=3)
apt-get "${apt[@]}" -qq update >&2

version=$(apt-cache "${apt[@]}" show --no-all-versions rustc-web:amd64 | sed -n 's/^Version: //p')
runtime=$(apt-cache "${apt[@]}" show --no-all-versions libstd-rust-web-dev:amd64 | sed -n 's/^Depends: \(libstd-rust-web-[0-9.]*\).*/\1/p')
[ -n "$version" ] && [ -n "$runtime" ] || fail "apt knows no package rustc-web: are bookworm's security updates among its sources?"

if [ "$(cat "$folder/rust" 2>/dev/null)" != "$version" ]; then
  rm -rf "$folder/root" "$folder/debs"
  mkdir -p "$folder/root" "$folder/debs"
  (cd "$folder/debs" && apt-get "${apt[@]}" -qq download "rustc-web:amd64=$version" "cargo-web:amd64=$version" \
    "$runtime:amd64=$version" "libstd-rust-web-dev:amd64=$version" "libstd-rust-web-dev:arm64=$version" >&2)
  for package in "$folder"/debs/*_amd64.deb; do
    dpkg-deb --field "$package" Depends | tr ',' '\n' | sed -n 's/^ *\(lib[a-z0-9.+-]*\).*/\1/p'
  done | grep -v '^libstd-rust\|^libc-dev$' | sort -u | xargs "$here/setup.sh" >&2
  for package in "$folder"/debs/*.deb; do
    dpkg --extract "$package" "$folder/root"
  done
  rm -rf "$folder/debs"
  echo "$version" >"$folder/rust"
fi

{
  echo "Debian 12, rustc-web and cargo-web $version"
  LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu "$folder/root/usr/bin/rustc" --version
  LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu "$folder/root/usr/bin/cargo" --version
  for package in gcc-12 libc6-dev libgcc-12-dev binutils gcc-12-aarch64-linux-gnu libc6-dev-arm64-cross \
    libgcc-12-dev-arm64-cross binutils-aarch64-linux-gnu; do
    dpkg-query --show --showformat='${Package} ${Version}\n' "$package"
  done
} >"$folder/versions"
