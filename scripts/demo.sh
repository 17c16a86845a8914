#!/usr/bin/env bash
# The main job, three times over: a cold one, one that finds its store, and one whose lock changed a little.
#
#   scripts/demo.sh [FOLDER]     everything happens below FOLDER (default: a new one in the system's temporary folder)
#
# Each "job" is a Nix store of its own that begins empty, as on a fresh runner. The cache is a folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
if [ $# -gt 0 ]; then
  mkdir -p "$1"
  work=$(cd "$1" && pwd)
else
  work=$(mktemp -d "${TMPDIR:-/tmp}/nix-cache-demo.XXXXXX")
fi

command -v nix >/dev/null || "$here/setup.sh" nix-bin
command -v gcc >/dev/null || "$here/setup.sh" gcc libc6-dev
[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || "$here/setup.sh" busybox-static

nix_cache=${NIX_CACHE_BIN:-}
if [ -z "$nix_cache" ]; then
  echo "Building nix-cache"
  (cd "$project" && cargo build --quiet --release --locked)
  nix_cache=${CARGO_TARGET_DIR:-$project/target}/release/nix-cache
fi

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

cleanup() {
  # Store paths are read-only, also for their owner.
  chmod -R u+w "$work" 2>/dev/null || true
  rm -rf "$work"
}
if [ $# -eq 0 ]; then
  trap cleanup EXIT
fi

build() { # build STORE: prints how many derivations were built
  if ! nix build "path:$flake" --store "$1" --out-link "$1/result" -L >"$work/log" 2>&1; then
    cat "$work/log" >&2
    return 1
  fi
  grep -c "^building '" "$work/log" || true
}

job() { # job NUMBER TITLE
  local store=$work/job-$1 start built
  local arguments=(--project "$flake" --remote "dir:$work/cache" --store-root "$store" --lane demo --quiet)
  printf '\n== Job %s: %s\n' "$1" "$2"
  printf 'restore  '
  "$nix_cache" restore "${arguments[@]}"
  start=$(date +%s%N)
  built=$(build "$store")
  printf 'build    %s derivations built in %s ms\n' "$built" "$((($(date +%s%N) - start) / 1000000))"
  printf 'save     '
  "$nix_cache" save "${arguments[@]}"
  printf 'check    '
  quietly nix-store --store "$store" --verify --check-contents
  echo "nix-store --verify --check-contents finds nothing wrong"
}

lock
job 1 "nothing is cached yet"
job 2 "the same commit on an empty store"
echo "one more word" >>"$flake/words/list"
lock
job 3 "an input of the flake changed"

printf '\nThe key of job 3 and what it is made of:\n'
"$nix_cache" key --project "$flake"
printf '\nWhat the cache holds for it:\n'
"$nix_cache" inspect --project "$flake" --remote "dir:$work/cache" --quiet
if [ $# -gt 0 ]; then
  printf '\nEverything is still in %s.\n' "$work"
fi
