#!/usr/bin/env bash
# Checks that the program compiles for macOS, on a machine that is not a Mac: with the C compiler of Zig (ziglang and cargo-zigbuild from
# PyPI, in a virtual environment) and, for the standard library, either rustup's targets or Debian's sources of it.
#
#   scripts/check-macos.sh           both kinds of Mac
#   scripts/check-macos.sh TARGET    one of them: aarch64-apple-darwin or x86_64-apple-darwin
#
# With rustup's targets (`rustup target add aarch64-apple-darwin x86_64-apple-darwin`), clippy runs as well. Without them, on Debian,
# its packages rustc-web, cargo-web and rust-web-src are installed, and the standard library is built first (some ten minutes). Everything
# is kept in target/macos.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "check-macos: $1" >&2
  exit 1
}

targets=("$@")
if [ $# -eq 0 ]; then targets=(aarch64-apple-darwin x86_64-apple-darwin); fi
for target in "${targets[@]}"; do
  case $target in
    aarch64-apple-darwin | x86_64-apple-darwin) ;;
    *) fail "$target is not a target of macOS: use aarch64-apple-darwin or x86_64-apple-darwin." ;;
  esac
done

folder=$PWD/target/macos
wanted="ziglang==0.17.1 cargo-zigbuild==0.24.1"
if [ "$(cat "$folder/venv/wanted" 2>/dev/null)" != "$wanted" ]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/setup.sh python3-venv python3-pip >&2
  rm -rf "$folder/venv"
  python3 -m venv "$folder/venv"
  # shellcheck disable=SC2086 # a list of words
  "$folder/venv/bin/pip" install --quiet --retries 5 $wanted
  echo "$wanted" >"$folder/venv/wanted"
fi
export PATH=$folder/venv/bin:$PATH CARGO_TARGET_DIR=$folder

# rustup's standard library for every target asked for.
have_targets() {
  local libraries
  libraries=$(rustc --print sysroot 2>/dev/null)/lib/rustlib || return 1
  for target in "${targets[@]}"; do
    [ -d "$libraries/$target/lib" ] || return 1
  done
}

if have_targets; then
  for target in "${targets[@]}"; do
    echo "check-macos: clippy for $target"
    cargo-zigbuild clippy --locked --target "$target" --lib --bins -- -D warnings
  done
  exit 0
fi

. /etc/os-release
[ "${ID:-}" = debian ] || fail "the standard library for macOS is missing. Run: rustup target add ${targets[*]}"
scripts/setup.sh rustc-web cargo-web rust-web-src
# The flag for building the standard library is otherwise for nightly compilers only.
export PATH=$folder/venv/bin:/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
unset RUSTUP_TOOLCHAIN
for target in "${targets[@]}"; do
  echo "check-macos: $(rustc --version), without clippy, for $target"
  # Warnings are errors in this package only: those of the standard library are none of ours.
  cargo-zigbuild check --locked -Zbuild-std=std,panic_abort --target "$target" --lib --bins --message-format short 2>&1 |
    tee "$folder/log" || fail "it does not compile for $target."
  if grep -E '^src/.*: warning' "$folder/log" >/dev/null; then fail "it compiles for $target with warnings."; fi
done
