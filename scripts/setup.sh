#!/usr/bin/env bash
# Installs what the demo and the tests need and this machine lacks: Debian or Ubuntu packages, named as arguments.
set -euo pipefail

missing=()
for package in "$@"; do
  dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo)
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get -o Acquire::Retries=3 -qq update
"${as_root[@]}" apt-get -o Acquire::Retries=3 -qq install --no-install-recommends --yes "${missing[@]}" >/dev/null
