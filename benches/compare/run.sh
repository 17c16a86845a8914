#!/usr/bin/env bash
# Measures nix-cache against the tar pipeline of cache-nix-action, run by GitHub's own cache client, and against `nix copy` and a
# substituter: on a realistic store of 3 GB, through the fake cache service, with a model of a hosted runner's link and without one.
#
#   benches/compare/run.sh [OPTION]...
#
#   --folder DIR        where everything is done (default: target/compare); 25 GB of room, not below a world-writable folder
#   --repeat N          rounds whose median is taken (default: 3)
#   --quick             a small store, one round, no pauses: to try the script itself
#   --cases LIST        of main, bump, commits, jobs, layers (default: the first four); jobs are whole jobs that read and compute, layers
#                       such jobs that stream from few layers and from many
#   --links LIST        of link, local (default: both)
#   --candidates LIST   of tar, mount, unpack, stream, nix copy, substituter (default: all)
#   --help              this text
#
# It installs what it needs on Debian, must be root (it mounts, in mount namespaces of its own) and wants a quiet machine: some
# hours, most of it `nix copy` over the link, which fetches one path after the other; without it, about two. The tables go to
# standard output and to DIR/result.md, every figure to DIR/result.json.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
folder=$project/target/compare
size=large
options=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
    --folder)
      folder=${2:?--folder needs a folder}
      shift 2
      ;;
    --quick)
      size=small
      options+=(--quick --repeat 1)
      shift
      ;;
    *)
      options+=("$1")
      shift
      ;;
  esac
done
[ "$(id -u)" -eq 0 ] || { echo "compare: root is needed, to mount." >&2; exit 1; }

"$project/scripts/setup.sh" busybox-static zstd python3 util-linux xz-utils >&2
command -v nix >/dev/null || "$project/scripts/setup.sh" nix-bin >&2
if newer=$("$project/scripts/newer-nix.sh" "$project/target/newer-nix"); then
  export PATH=$newer:$PATH
fi
"$project/scripts/setup-act.sh" "$project/target/venv" >/dev/null
(cd "$project" && cargo build --quiet --release --locked --bin nix-cache --example dev-server --example binary-cache)

folder=$folder/$size
"$here/make-store.sh" "$folder" "$size"
cd "$here"
exec python3 -m harness --folder "$folder" "${options[@]}"
