#!/usr/bin/env bash
# Builds the binaries that workflows run, on Debian 12: dist/nix-cache-x86_64-linux and dist/nix-cache-aarch64-linux, static and
# reproducible. Installs what it needs; the compilers go below target/. Commit the source first, then what this has changed in
# dist/: the hash of the source is in the binaries.
#
#   scripts/build-dist.sh
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/dist-tools
built=target/dist/out
scripts/dist/toolchain.sh "$tools"
scripts/dist/compile.sh . "$tools" target/dist "$built"
scripts/dist/inspect.sh "$built"

rm -rf dist
mkdir dist
cp -p "$built"/nix-cache-* dist/
(cd dist && sha256sum nix-cache-* >SHA256SUMS)
scripts/source-hash.sh --list >dist/SOURCES

commit=$(git rev-parse HEAD)
if ! git diff --quiet HEAD -- src Cargo.toml Cargo.lock build.rs .cargo 2>/dev/null; then
  commit="$commit, with changes that were not committed"
  echo "build-dist: the source has changes that are not committed; nobody else can build these binaries again." >&2
fi
{
  echo "# How these binaries were made"
  echo
  echo "By \`scripts/build-dist.sh\`, on Debian 12. \`scripts/check-dist.sh\` makes them again and compares every byte."
  echo
  echo "| | |"
  echo "| --- | --- |"
  echo "| commit | $commit |"
  echo "| hash of the source (\`scripts/source-hash.sh\`, in \`--version\`) | $(scripts/source-hash.sh) |"
  echo "| flags of rustc | \`-C target-feature=+crt-static\`, \`-C force-unwind-tables=no\`, on x86_64 \`-z pack-relative-relocs\`, \`--remap-path-prefix\` for source, crates, compiler and target |"
  echo "| profile | \`release\` in Cargo.toml: fat LTO, one codegen unit, optimised for size but for what works on every byte, \`panic = abort\`, stripped |"
  for file in dist/nix-cache-*; do
    echo "| \`$(basename "$file")\` | $(stat -c %s "$file") bytes, $(scripts/dist/inspect.sh --kind "$file") |"
  done
  echo
  echo "What took part, and ends up in them:"
  echo
  echo '```'
  cat "$tools/versions"
  echo '```'
} >dist/BUILD.md
scripts/check-dist.sh --quick
