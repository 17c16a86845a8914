#!/usr/bin/env bash
# Runs binaries of dist/ where there is nothing: no tools, no C library, no CA certificates, no resolver; under Debian 13, whose
# name service modules have killed static programs before; and the one for the other processor in an emulator. Each saves a
# store and restores it through a directory, and speaks to an HTTPS server. Needs root, for chroot, and installs what it needs.
#
#   scripts/test-dist.sh [FOLDER]     the folder of the binaries (default: dist)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(cd "${1:-dist}" && pwd)

fail() {
  echo "test-dist: $1" >&2
  exit 1
}

[ "$(id -u)" -eq 0 ] || fail "root is needed, for chroot."
scripts/setup.sh openssl mmdebstrap qemu-user-static
command -v nix-store >/dev/null || scripts/setup.sh nix-bin
unset NIX_REMOTE NIX_STORE_DIR NIX_STATE_DIR NIX_PATH
export NIX_CONFIG='build-users-group ='
mkdir -p target
work=$(mktemp -d "$PWD/target/test-dist.XXXXXX")
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  chmod -R u+w "$work" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# A store with two paths, of which one refers to the other, and one with what a file system can hold.
make_store() { # ROOT
  mkdir -p "$work/tree/folder/empty"
  printf '#!/bin/sh\necho hello\n' >"$work/tree/run"
  chmod +x "$work/tree/run"
  ln -s ../run "$work/tree/folder/link"
  head -c 3000000 /dev/urandom >"$work/tree/folder/large"
  nix-store --store "$1" --add "$work/tree" >/dev/null
  nix-instantiate --store "$1" --read-write-mode --eval -E 'builtins.toFile "app" "needs ${builtins.toFile "lib" "text"}"' >/dev/null
}

# An HTTPS server whose certificate nobody trusts.
serve() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
  local tries=5
  while [ $((tries--)) -gt 0 ]; do
    port=$((20000 + RANDOM % 20000))
    openssl s_server -quiet -accept "127.0.0.1:$port" -cert "$work/cert.pem" -key "$work/key.pem" -www >/dev/null 2>&1 &
    server=$!
    sleep 1
    if kill -0 "$server" 2>/dev/null; then return; fi
  done
  fail "no HTTPS server could be started."
}

# Runs the binary in a root. No variable comes along but those that are named.
within() { # ROOT [VARIABLE=VALUE...] -- ARGUMENT...
  local root=$1 variables=()
  shift
  while [ "$1" != -- ]; do variables+=("$1"); shift; done
  shift
  env -i "PATH=/nowhere" "${variables[@]}" "$(command -v chroot)" "$root" "${start[@]}" "$@"
}

whole() { # NAME ROOT: save, restore and verify in a root, and Nix's own opinion of the result
  local name=$1 root=$2 arguments=(--remote dir:/cache --primary-key dist --format json)
  cp -a "$work/store" "$root/store"
  nix-store --store "$root/new" --init # which a machine with Nix has
  within "$root" -- save --store-root /store "${arguments[@]}" >"$work/saved" 2>"$work/log" ||
    { cat "$work/log" >&2; fail "$name: the save failed."; }
  grep -q '"reason": "new-key"' "$work/saved" || fail "$name: nothing was saved: $(cat "$work/saved" "$work/log")"
  within "$root" -- restore --store-root /new "${arguments[@]}" >"$work/restored" 2>"$work/log" ||
    { cat "$work/log" >&2; fail "$name: the restore failed."; }
  grep -q '"hit": "exact"' "$work/restored" || fail "$name: nothing was restored: $(cat "$work/restored" "$work/log")"
  within "$root" -- verify --store-root /new >/dev/null 2>"$work/log" || fail "$name: $(cat "$work/log")"
  diff -r --no-dereference --exclude .links "$root/store/nix/store" "$root/new/nix/store" ||
    fail "$name: what was restored is not what was saved."
  nix-store --store "$root/new" --verify --check-contents 2>"$work/log" || fail "$name: Nix says: $(cat "$work/log")"
  for path in "$root"/store/nix/store/*-*; do
    path=/nix/store/${path##*/}
    [ "$(nix-store --store "$root/store" --query --references "$path")" = "$(nix-store --store "$root/new" --query --references "$path")" ] ||
      fail "$name: $path refers to something else."
  done
  [ "$(find "$root/new/nix/store" -mindepth 1 -maxdepth 1 -name '*-*' | wc -l)" -eq 3 ] || fail "$name: there are not three paths."
  echo "test-dist: $name: three paths were saved and restored"
}

https() { # NAME ROOT HOST: a server that is not trusted is a miss with its cause
  local name=$1 root=$2
  nix-store --store "$root/https" --init
  within "$root" "ACTIONS_RESULTS_URL=https://$3:$port/" ACTIONS_RUNTIME_TOKEN=none -- \
    restore --store-root /https --remote github --primary-key dist --verbose >"$work/out" 2>"$work/log" ||
    fail "$name: an untrusted server fails the program: $(cat "$work/log")"
  grep -qi 'certificate' "$work/log" || fail "$name: $3 was not reached by HTTPS: $(cat "$work/log")"
  grep -q '^Miss' "$work/out" || fail "$name: no miss: $(cat "$work/out")"
}

empty_root() { # NAME FILE: a root with the binary and no other file
  local root=$work/$1
  mkdir -p "$root/cache"
  cp "$2" "$root/nix-cache"
  if [ ${#start[@]} -gt 1 ]; then cp "$(command -v "${start[0]#/}")" "$root/"; fi
  within "$root" -- --version >/dev/null || fail "$1: it does not start."
  whole "$1" "$root"
  https "$1" "$root" 127.0.0.1
  grep -q 'built-in CA certificates' "$work/log" || fail "$1: the built-in certificates were not used: $(cat "$work/log")"
  echo "test-dist: $1: HTTPS with the built-in certificates"
}

debian_13() { # FILE
  local root=$work/debian-13 mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | head -n 1) || true
  [ -n "$mirror" ] || fail "apt knows no mirror from which Debian 13 could come."
  mmdebstrap --mode=root --variant=extract --include=libc6,libnss-mdns,libnss-resolve,libnss-myhostname,bash,coreutils \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Install-Recommends "false"' \
    trixie "$root" "deb $mirror trixie main" >"$work/log" 2>&1 || fail "Debian 13 is not available: $(tail -n 5 "$work/log")"
  printf 'passwd: files systemd\nhosts: files mymachines mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] myhostname dns\n' \
    >"$root/etc/nsswitch.conf"
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
  rm -rf "$root/etc/ssl"
  ls "$root"/usr/lib/*/libnss_mdns4_minimal.so.2 "$root"/usr/lib/*/libnss_resolve.so.2 "$root"/usr/lib/*/libnss_myhostname.so.2 >/dev/null
  mkdir "$root/cache"
  cp "$1" "$root/nix-cache"
  whole "Debian 13" "$root"
  https "Debian 13" "$root" localhost
  echo "test-dist: Debian 13: a name was resolved, with mdns4_minimal, resolve and myhostname in nsswitch.conf"
}

make_store "$work/store"
serve
for file in "$folder"/nix-cache-*-linux; do
  cpu=${file##*/nix-cache-}
  cpu=${cpu%-linux}
  if [ "$cpu" = "$(uname -m)" ]; then
    start=(/nix-cache)
    empty_root "empty root" "$file"
    debian_13 "$file"
  else
    start=("/qemu-$cpu-static" /nix-cache)
    empty_root "empty root with $cpu in an emulator" "$file"
  fi
done
