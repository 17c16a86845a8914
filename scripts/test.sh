#!/usr/bin/env bash
# Every check and test, from a fresh clone on: installs what they need on Debian or Ubuntu, then formatting, lints, tests. Prints each step and
# how long it took, and closes with one line of counts.
#
# What can be set: NIX_CACHE_TEST_KILLS (how often a restore or save is killed, default 80; a campaign is 200 and more).
set -euo pipefail
cd "$(dirname "$0")/.."

begin=$SECONDS
steps=0
title=

ended() { # says how long the current step took
  if [ -n "$title" ]; then printf -- '-- %s: %s s\n' "$title" "$((SECONDS - started))"; fi
}

step() {
  ended
  title=$1 started=$SECONDS steps=$((steps + 1))
  printf '\n== %s\n' "$title"
}

# Whatever ends the script, the last line says which step it was.
finish() {
  local code=$?
  if [ "$code" -ne 0 ]; then printf '\nFAILED in the step "%s" after %s s (exit code %s).\n' "$title" "$((SECONDS - begin))" "$code"; fi
}
trap finish EXIT

step "What the tests need"
command -v nix >/dev/null || scripts/setup.sh nix-bin
scripts/setup.sh bash-static busybox-static chromium fonts-dejavu-core git openssh-client squashfs-tools sqlite3 sudo
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
step "The documentation"
scripts/check-docs.sh
step "The prebuilt binaries"
scripts/check-dist.sh --quick
step "The hook"
node --test tests/hook/ >target/hook-tests.log 2>&1 || { cat target/hook-tests.log; exit 1; }
tail -n 8 target/hook-tests.log
step "Tests"
export NIX_CACHE_TEST_REQUIRE_ALL=1 NIX_CACHE_TEST_KILLS=${NIX_CACHE_TEST_KILLS:-80}
cargo test --locked 2>&1 | tee target/tests.log
ended

# The sum of cargo's lines `test result: ok. 12 passed; 0 failed; 1 ignored; ...`, and of node's `# pass 12`.
count() { sed -n "s/^test result: .* \([0-9]*\) $1.*/\1/p" target/tests.log | awk '{ sum += $1 } END { print sum + 0 }'; }
hook=$(sed -n 's/^[#ℹ] pass \([0-9]*\)$/\1/p' target/hook-tests.log)
printf '\nAll is well: %s steps in %s s; %s tests passed, %s were ignored, and %s of the hook passed.\n' \
  "$steps" "$((SECONDS - begin))" "$(count passed)" "$(count ignored)" "${hook:-0}"
