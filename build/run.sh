#!/bin/sh
# Starts nix-cache for a step of build/ or, with the argument `audit` or `warm`, of audit/ or warm/. All run code of the repository, which can read
# the environment of the processes above it: so no token of the runner's stays in it, whatever the runner puts there.
set -eu

case ${1:-} in
  audit) outcome=audited ;;
  warm) outcome=warmed ;;
  *) outcome=built ;;
esac

fail() {
  printf '::error title=nix-cache::%s Nothing was %s.\n' "$(printf '%s' "$1" | tr '\r\n%' '   ')" "$outcome"
  exit 1
}

case $(uname -m) in
  arm64) cpu=aarch64 ;;
  amd64) cpu=x86_64 ;;
  *) cpu=$(uname -m) ;;
esac
if [ -n "${NIX_CACHE_BINARY:-}" ]; then
  cd "${GITHUB_WORKSPACE:-.}"
  case $NIX_CACHE_BINARY in
    /*) binary=$NIX_CACHE_BINARY ;;
    *) binary=$PWD/$NIX_CACHE_BINARY ;;
  esac
  [ -f "$binary" ] || fail "There is no $binary, which the input \"binary\" names."
else
  binary=$(dirname "$0")/../dist/nix-cache-$cpu-$(uname -s | tr '[:upper:]' '[:lower:]')
  [ -f "$binary" ] || fail "There is no $binary: this action brings no nix-cache for $cpu $(uname -s). Linux on x86_64 and aarch64 have one. Give the path of one built for this machine as the input \"binary\"."
fi
[ -x "$binary" ] || fail "$binary cannot be started. Check that it may be executed here."
unset ACTIONS_RUNTIME_TOKEN ACTIONS_RUNTIME_URL ACTIONS_RESULTS_URL ACTIONS_CACHE_URL GITHUB_TOKEN GH_TOKEN
unset ACTIONS_ID_TOKEN_REQUEST_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL
exec "$binary" action "${1:-build}"
