#!/usr/bin/env bash
# Every check and test, from a fresh clone on: installs what they need on Debian or Ubuntu, then formatting, lints, tests.
#
# What can be set: NIX_CACHE_TEST_KILLS (how often a restore or save is killed, default 200).
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$1"; }

step "What the tests need"
command -v nix >/dev/null || scripts/setup.sh nix-bin
scripts/setup.sh bash-static busybox-static git openssh-client squashfs-tools sqlite3 sudo
command -v cc >/dev/null || scripts/setup.sh gcc libc6-dev
tools=$(scripts/setup-act.sh target/venv)
export PATH=$PWD/$tools:$PATH
if newer=$(scripts/newer-nix.sh target/newer-nix); then
  export NIX_CACHE_TEST_NEWER_NIX=$newer
else
  echo "WARNING: there is no newer Nix: the tests run with $(nix --version) only."
fi

step "Formatting"
cargo fmt --check
step "Lints"
cargo clippy --all-targets --locked -- -D warnings
step "The crates"
python3 scripts/check-crates.py
step "YAML"
scripts/lint-yaml.sh
step "The prebuilt binaries"
scripts/check-dist.sh --quick
step "The hook"
node --test tests/hook/ >target/hook-tests.log 2>&1 || { cat target/hook-tests.log; exit 1; }
tail -n 8 target/hook-tests.log
step "Tests"
export NIX_CACHE_TEST_REQUIRE_ALL=1 NIX_CACHE_TEST_KILLS=${NIX_CACHE_TEST_KILLS:-200}
cargo test --locked
