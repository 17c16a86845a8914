#!/usr/bin/env bash
# Compiles the binaries of dist/ from a folder with the source. The same source gives the same bytes, wherever it stands and
# whoever calls: nothing of the caller's environment gets in.
#
#   scripts/dist/compile.sh SOURCE TOOLCHAIN TARGET OUT [CPU...]
#
# TOOLCHAIN is the folder that toolchain.sh has filled, TARGET one for cargo to build in, OUT where the binaries go.
# CPU is x86_64 or aarch64; both by default. CARGO_HOME may be set; only its registry is used.
set -euo pipefail
source=$(cd "$1" && pwd)
toolchain=$(cd "$2" && pwd)
mkdir -p "$3" "$4"
target=$(cd "$3" && pwd)
out=$(cd "$4" && pwd)
cpus=("${@:5}")
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$cargo_home"
cargo_home=$(cd "$cargo_home" && pwd)
hash=$("$source/scripts/source-hash.sh")

# Where things stand must not show: the registry's folder even has the name of a host in it.
remap() { # PREFIX OPTION: maps every folder that can end up in a message of the binary
  local registry
  printf '%s=%s\n' "$source" source "$toolchain/root/usr" rust "$target" target "$cargo_home" cargo
  for registry in "$cargo_home"/registry/src/*; do
    printf '%s=crates\n' "$registry"
  done
}

clean=(env -i "PATH=/usr/bin:/bin" "HOME=$HOME" "CARGO_HOME=$cargo_home" LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=1
  "LD_LIBRARY_PATH=$toolchain/root/usr/lib/x86_64-linux-gnu" "RUSTC=$toolchain/root/usr/bin/rustc"
  "CARGO_TARGET_DIR=$target" CARGO_INCREMENTAL=0 "NIX_CACHE_SOURCE_HASH=$hash")
# How the registry is reached is the machine's own affair.
for name in http_proxy https_proxy no_proxy HTTPS_PROXY NO_PROXY SSL_CERT_FILE CARGO_HTTP_CAINFO CARGO_HTTP_PROXY; do
  if [ -n "${!name:-}" ]; then clean+=("$name=${!name}"); fi
done
cargo=$toolchain/root/usr/bin/cargo
cd "$source"
"${clean[@]}" "$cargo" fetch --quiet --locked

separator=$'\x1f'
rust_flags="-Ctarget-feature=+crt-static${separator}-Cforce-unwind-tables=no${separator}-Clink-arg=-Wl,-T,scripts/dist/no-unwind.ld"
# Nothing unwinds: a panic aborts.
c_flags=" -fno-asynchronous-unwind-tables -fno-unwind-tables"
while IFS= read -r mapping; do
  rust_flags+="${separator}--remap-path-prefix=$mapping"
  c_flags+=" '-ffile-prefix-map=$mapping'"
done < <(remap)
clean+=("CFLAGS=${c_flags# }" CC_SHELL_ESCAPED_FLAGS=1
  CC_x86_64_unknown_linux_gnu=gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
  CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc)

if [ ${#cpus[@]} -eq 0 ]; then cpus=(x86_64 aarch64); fi
# Where the linker knows them: an eighth of the room that relocations take.
relocations="${separator}-Clink-arg=-Wl,-z,pack-relative-relocs"
for cpu in "${cpus[@]}"; do
  flags=$rust_flags
  if [ "$cpu" = x86_64 ]; then flags+=$relocations; fi
  echo "compiling for $cpu" >&2
  "${clean[@]}" "CARGO_ENCODED_RUSTFLAGS=$flags" "$cargo" rustc --release --locked --bin nix-cache --target "$cpu-unknown-linux-gnu" >&2
  install -m 755 "$target/$cpu-unknown-linux-gnu/release/nix-cache" "$out/nix-cache-$cpu-linux"
done
