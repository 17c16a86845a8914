#!/usr/bin/env bash
# Replays histories of repositories under GitHub's rules and prints, for this program and two others, what comes from the cache, what is moved and
# held, and how long jobs take. The code of keys, lanes, snapshots and layers is the real one; store paths, sizes and times are a model, which
# src/cache/replay/model.rs describes. Fails if less than nine in ten paths come from the cache.
#
#   benches/replay/run.sh [FOLDER]     FOLDER/NAME/history.jsonl and FOLDER/NAME/locks/*.json (default: the sample beside this script)
#
# A line of history.jsonl is a commit, the oldest first: {"time": SECONDS, "commit": ..., "lock": NAME of the lock file, "changed": [FILES]}.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "${1:-$here/sample}" && pwd)
cd "$here/../.."
NIX_CACHE_TEST_REPLAY=$folder cargo test --quiet --release --lib cache::replay -- --nocapture
