#!/usr/bin/env bash
# Looks into binaries of dist/: static, small, and without a path, a name or an address of the machine that built them.
#
#   scripts/dist/inspect.sh FOLDER        fails with what is wrong
#   scripts/dist/inspect.sh --kind FILE   prints what kind of executable it is
set -euo pipefail

kind() { # FILE
  local type
  type=$(readelf --file-header "$1" | sed -n 's/^ *Type: *\([A-Z]*\).*/\1/p')
  if readelf --program-headers "$1" | grep -q INTERP; then
    echo dynamic
  elif [ "$type" = DYN ]; then
    echo static-pie
  else
    echo static
  fi
}

if [ "$1" = --kind ]; then
  kind "$2"
  exit
fi

failed=0
wrong() {
  echo "inspect: $1" >&2
  failed=1
}
home=${CARGO_HOME:-$HOME/.cargo}
for file in "$1"/nix-cache-*; do
  kind=$(kind "$file")
  case $file:$kind in
    *x86_64-linux:static-pie | *aarch64-linux:static | *aarch64-linux:static-pie) ;;
    *) wrong "$file is $kind, and would not run everywhere." ;;
  esac
  size=$(stat -c %s "$file")
  [ "$size" -lt 12000000 ] || wrong "$file has $size bytes, and 12 MB are the limit."
  [ -x "$file" ] || wrong "$file cannot be executed."
  text=$(strings -n 4 "$file")
  # Folders of this machine and any home, its name, and those of the registry's folders, which have a host in them.
  words=("$PWD" "$home" "$HOME/" /home/ /root/ registry/src)
  for registry in "$home"/registry/src/*; do words+=("${registry##*/}"); done
  # A shorter name is part of other words.
  host=$(uname -n)
  if [ ${#host} -ge 6 ]; then words+=("$host"); fi
  for word in "${words[@]}"; do
    case $word in / | // | '' | '*' | localhost | debian) continue ;; esac
    found=$(grep -F -m 3 -- "$word" <<<"$text" || true)
    [ -z "$found" ] || wrong "$file tells of the machine that built it: $found"
  done
done
exit "$failed"
