#!/usr/bin/env bash
# Prints the hash of what goes into the binary: the SHA-256 of a list of the SHA-256 of each file. A commit's hash would
# change with every word in a document, and with the commit that adds the binaries themselves.
#
#   scripts/source-hash.sh           the hash
#   scripts/source-hash.sh --list    the list
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

# In a repository, what git knows or does not ignore; elsewhere (an unpacked archive), everything that is there.
files() {
  local places=(src Cargo.toml Cargo.lock build.rs .cargo)
  if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$PWD" ]; then
    git ls-files -z --cached --others --exclude-standard -- "${places[@]}" | sort -z -u
  else
    for place in "${places[@]}"; do
      if [ -e "$place" ]; then find "$place" -type f -print0; fi
    done | sort -z
  fi
}

list() {
  # A file that was removed and not yet committed is still known to git.
  files | while IFS= read -r -d '' file; do if [ -f "$file" ]; then printf '%s\0' "$file"; fi; done |
    xargs -0 sha256sum --
}

case ${1:-} in
  --list) list ;;
  '') list | sha256sum | cut -c 1-40 ;;
  *) echo "source-hash: $1 is not an option. There is --list." >&2; exit 2 ;;
esac
