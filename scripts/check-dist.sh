#!/usr/bin/env bash
# Checks dist/.
#
#   scripts/check-dist.sh --quick      sums match, the binaries start and know their source; says what has changed since
#   scripts/check-dist.sh --released   the same, and that nothing has changed since
#   scripts/check-dist.sh              the same as --quick, then builds everything again in another place with another
#                                      CARGO_HOME, compares every byte, and runs the binaries where there is nothing
#
# dist/ is rebuilt when a piece of work is finished, not with every commit: an older dist/ is reported and is not a failure. The
# full check then builds from the commit that dist/BUILD.md names.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "check-dist: $1" >&2
  exit 1
}

# Runs a binary of dist/, in an emulator if it is for another processor.
run() { # FILE ARGUMENT...
  local file=$1 cpu
  shift
  cpu=${file##*/nix-cache-}
  cpu=${cpu%-linux}
  if [ "$cpu" = "$(uname -m)" ]; then
    "$file" "$@"
  else
    command -v "qemu-$cpu-static" >/dev/null || scripts/setup.sh qemu-user-static >&2
    "qemu-$cpu-static" "$file" "$@"
  fi
}

changes() { # prints which files of the source differ from those that dist/ was built from
  diff --label dist --label source -U 0 dist/SOURCES <(scripts/source-hash.sh --list) | sed -n 's/^[-+][0-9a-f]\{64\}  //p' | sort -u
}

quick() {
  local file hash
  if [ ! -f dist/SHA256SUMS ]; then
    [ ! -d dist ] || fail "dist/ has no SHA256SUMS. Run scripts/build-dist.sh and commit dist/."
    echo "check-dist: there is no dist/ yet: scripts/build-dist.sh makes it."
    return 1
  fi
  for file in dist/nix-cache-x86_64-linux dist/nix-cache-aarch64-linux; do
    [ -f "$file" ] || fail "$file is missing. Run scripts/build-dist.sh and commit dist/."
    [ -x "$file" ] || fail "$file cannot be executed: \`git update-index --chmod=+x $file\`."
    grep -q " ${file#dist/}$" dist/SHA256SUMS || fail "dist/SHA256SUMS does not name $file."
  done
  (cd dist && sha256sum --quiet --check SHA256SUMS) ||
    fail "a binary is not the one in dist/SHA256SUMS. Run scripts/build-dist.sh and commit dist/."
  hash=$(sha256sum <dist/SOURCES | cut -c 1-40)
  for file in dist/nix-cache-*; do
    run "$file" --version | grep -qF "(source $hash)" ||
      fail "$file does not start, or was not built from dist/SOURCES: \`--version\` should name $hash."
  done
  if [ "$hash" = "$(scripts/source-hash.sh)" ]; then
    echo "check-dist: the binaries start, and are built from this source ($hash)."
  else
    echo "check-dist: the binaries start. They are older than the source: $hash, and the source is $(scripts/source-hash.sh)."
    changes | sed 's/^/  differs: /'
    echo "  When this piece of work is finished, run scripts/build-dist.sh and commit dist/."
  fi
}

# The source of dist/, in a folder of its own whose name is awkward.
copy_source() { # FOLDER
  local commit hash
  hash=$(sha256sum <dist/SOURCES | cut -c 1-40)
  if [ "$hash" = "$(scripts/source-hash.sh)" ]; then
    mkdir -p "$1"
    git ls-files -z --cached --others --exclude-standard -- . ':!dist' |
      while IFS= read -r -d '' file; do if [ -f "$file" ]; then printf '%s\0' "$file"; fi; done |
      tar --create --null --files-from - | tar --extract --directory "$1"
    return
  fi
  commit=$(sed -n 's/^| commit | \([0-9a-f]\{40\}\).*/\1/p' dist/BUILD.md)
  git cat-file -e "$commit^{commit}" 2>/dev/null ||
    fail "dist/ was built from the commit $commit, which is not here. Fetch it, or run scripts/build-dist.sh and commit dist/."
  mkdir -p "$1"
  git archive "$commit" | tar --extract --directory "$1"
  [ "$hash" = "$(cd "$1" && scripts/source-hash.sh)" ] ||
    fail "dist/ was not built from the commit $commit that dist/BUILD.md names. Run scripts/build-dist.sh and commit dist/."
}

rebuild() {
  local work tools=target/dist-tools home=${CARGO_HOME:-$HOME/.cargo} file part
  work=$(mktemp -d "$PWD/target/check-dist.XXXXXX")
  # shellcheck disable=SC2064 # the folder as it is now
  trap "rm -rf '$work'" EXIT
  scripts/dist/toolchain.sh "$tools"
  copy_source "$work/another place"
  mkdir -p "$work/cargo home/registry"
  # What was downloaded before need not be again; it is unpacked anew.
  for part in index cache; do
    if [ -d "$home/registry/$part" ]; then cp -r "$home/registry/$part" "$work/cargo home/registry/"; fi
  done
  if [ -f "$home/config.toml" ]; then cp "$home/config.toml" "$work/cargo home/"; fi
  CARGO_HOME="$work/cargo home" scripts/dist/compile.sh "$work/another place" "$tools" "$work/target" "$work/out"
  scripts/dist/inspect.sh "$work/out"
  for file in dist/nix-cache-*; do
    if ! cmp "$file" "$work/out/${file#dist/}"; then
      echo "check-dist: $file cannot be built again. It was built with what stands on the left, and now with what stands on the right:" >&2
      diff --side-by-side --suppress-common-lines <(sed -n '/^```$/,/^```$/p' dist/BUILD.md | grep -v '^```$') "$tools/versions" >&2 ||
        fail "install these versions, or run scripts/build-dist.sh here and commit dist/."
      fail "the compilers are the same, so something of the machine gets into the binaries, or they are not what they are said to be. Do not release them."
    fi
  done
  echo "check-dist: built again in another folder with another CARGO_HOME, they have the same bytes."
}

case ${1:-} in
  --quick) quick || true ;;
  --released)
    quick || exit 1
    [ -z "$(changes)" ] || fail "dist/ is older than the source. Run scripts/build-dist.sh and commit dist/."
    ;;
  '')
    quick || exit 1
    rebuild
    scripts/test-dist.sh dist
    ;;
  *) fail "$1 is not an option. There are --quick and --released." ;;
esac
