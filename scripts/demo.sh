#!/usr/bin/env bash
# The main job, three times over: a cold one, one that finds its store, and one whose lock changed a little; then a picture of where the
# time went, and the job summary of the last one. Takes less than a minute with the program in dist/, which is used when it was built from the source at hand; otherwise the program is
# compiled first, which takes up to ten minutes.
#
#   scripts/demo.sh [FOLDER]     everything happens below FOLDER (default: a new one in the system's temporary folder)
#
# Each "job" is a Nix store of its own that begins empty, as on a fresh runner, with the two steps of the action, which get what a runner gives
# them. The cache is a folder. NIX_CACHE_BIN names another program.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
if [ $# -gt 0 ]; then
  mkdir -p "$1"
  work=$(cd "$1" && pwd)
else
  work=$(mktemp -d "${TMPDIR:-/tmp}/nix-cache-demo.XXXXXX")
fi

cleanup() {
  # Store paths are read-only, also for their owner.
  chmod -R u+w "$work" 2>/dev/null || true
  rm -rf "$work"
}
if [ $# -eq 0 ]; then
  trap cleanup EXIT
fi

command -v nix >/dev/null || "$here/setup.sh" nix-bin
[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || "$here/setup.sh" busybox-static

find_program() {
  local hash shipped
  if [ -n "${NIX_CACHE_BIN:-}" ]; then
    nix_cache=$NIX_CACHE_BIN
    return
  fi
  hash=$("$here/source-hash.sh")
  shipped=$project/dist/nix-cache-$(uname -m)-linux
  if [ -x "$shipped" ] && "$shipped" --version 2>/dev/null | grep -qF "$hash"; then
    echo "The program is dist/${shipped##*/}, which was built from this very source."
    nix_cache=$shipped
    return
  fi
  nix_cache=${CARGO_TARGET_DIR:-$project/target}/release/nix-cache
  # Its version has the hash too when this script compiled it.
  if [ -x "$nix_cache" ] && "$nix_cache" --version | grep -qF "$hash"; then
    echo "The program is $nix_cache, compiled from this source before."
    return
  fi
  echo "dist/ was built from an earlier source than this: compiling takes up to ten minutes. (NIX_CACHE_BIN=$shipped runs that one at once.)"
  command -v cc >/dev/null || "$here/setup.sh" gcc libc6-dev
  (cd "$project" && NIX_CACHE_SOURCE_HASH=$hash cargo build --release --locked)
}
find_program

# Nix is to use nothing of this machine's: no configuration, no substituter, no cache of evaluations.
export HOME=$work/home XDG_CACHE_HOME=$work/home/cache NIX_CONF_DIR=$work/home/conf NIX_USER_CONF_FILES=
export NIX_CONFIG="experimental-features = nix-command flakes
substituters =
build-users-group =
sandbox-paths =
max-jobs = auto
warn-dirty = false"
flake=$work/project
mkdir -p "$HOME" "$NIX_CONF_DIR" "$flake/tools"
cp -r "$here/demo/." "$flake/"
cp /bin/busybox "$flake/tools/busybox"
sed -i "s/@system@/$(uname -m)-linux/; s#path:./words#path:$flake/words#" "$flake/flake.nix"

quietly() { # COMMAND...: shows what it printed only if it fails
  "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
}

lock() { # makes flake.lock anew; in a store of its own, so that this machine's is not touched
  rm -f "$flake/flake.lock"
  quietly nix flake lock "path:$flake" --store "$work/lock"
}

now() { date +%s%3N; }

timed() { # JOB PHASE COMMAND...: runs it and notes how long it took
  local start job=$1 phase=$2
  shift 2
  start=$(now)
  "$@"
  printf '%s\t%s\t%s\n' "$job" "$phase" "$(($(now) - start))" >>"$work/times"
}

build() { # build STORE: says how many derivations were built
  if ! nix build "path:$flake" --store "$1" --out-link "$1/result" -L >"$work/log" 2>&1; then
    cat "$work/log" >&2
    return 1
  fi
  printf 'build    %s derivations built\n' "$(grep -c "^building '" "$work/log" || true)"
}

step() { # step NUMBER NAME: runs a step of the action as a runner does, in job NUMBER, and shows the last thing that it says
  local runner=$work/runner-$1 inputs="{\"remote\": \"dir:$work/cache\", \"lane\": \"demo\", \"job-status\": \"success\"}" file
  mkdir -p "$runner"
  for file in output state env summary; do : >>"$runner/$file"; done
  if ! env GITHUB_OUTPUT="$runner/output" GITHUB_STATE="$runner/state" GITHUB_ENV="$runner/env" GITHUB_STEP_SUMMARY="$runner/summary" \
    RUNNER_TEMP="$runner" GITHUB_WORKSPACE="$flake" GITHUB_WORKFLOW=demo GITHUB_JOB=demo GITHUB_RUN_ID="$1" GITHUB_RUN_ATTEMPT=1 \
    NIX_CACHE_STORE_ROOT="$work/job-$1" NIX_CACHE_INPUTS="$inputs" "$nix_cache" action "$2" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    return 1
  fi
  sed -n 's/^ *INFO //p' "$work/log" | tail -n 1
}

job() { # job NUMBER TITLE
  local store=$work/job-$1 name="Job $1: $2"
  printf '\n== %s\n' "$name"
  printf 'restore  '
  timed "$name" restore step "$1" restore
  timed "$name" build build "$store"
  printf 'save     '
  timed "$name" save step "$1" post
  printf 'check    '
  quietly nix-store --store "$store" --verify --check-contents
  echo "nix-store --verify --check-contents finds nothing wrong"
}

start=$(now)
lock
job 1 "nothing is cached yet"
job 2 "the same commit, empty store"
echo "one more word" >>"$flake/words/list"
lock
job 3 "an input of the flake changed"

printf '\nThe key of job 3 and what it is made of:\n'
"$nix_cache" key --project "$flake"
printf '\nWhat the cache holds for it:\n'
"$nix_cache" inspect --project "$flake" --remote "dir:$work/cache" --quiet
printf '\nThe job summary of job 3, which GitHub shows on the page of the run:\n\n'
bold=
if [ -t 1 ]; then bold=1; fi
LC_ALL=C awk -v columns=110 -v bold="$bold" -f "$here/demo-summary.awk" "$work/runner-3/summary"
printf '\nWhere the time went (all in all %s s):\n' "$((($(now) - start + 500) / 1000))"
awk -f "$here/demo-time.awk" "$work/times"
if [ $# -gt 0 ]; then
  printf '\nEverything is still in %s.\n' "$work"
fi
