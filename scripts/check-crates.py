#!/usr/bin/env python3
"""Checks the crates in the binaries against deny.toml, without the network: licences, banned crates, versions, sources.

Advisories need the network and are checked by .github/workflows/advisories.yml.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
TARGET = "x86_64-unknown-linux-gnu"


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether an SPDX expression can be met with these licences."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    joined: list[str] = []
    for word in words:  # `A WITH B` is one licence
        if joined and (word == "WITH" or joined[-1].endswith(" WITH")):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    terms = {"OR": "or", "AND": "and", "(": "(", ")": ")"}
    text = " ".join(terms.get(word, str(word in licences)) for word in joined)
    return bool(text) and bool(eval(text, {"__builtins__": {}}))  # only True, False, and, or and parentheses


def main() -> int:
    rules = tomllib.loads(Path("deny.toml").read_text(encoding="utf-8"))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    edges = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    # What is needed to build and run, and not to test.
    reached, waiting = {root}, [root]
    while waiting:
        for edge in edges[waiting.pop()]:
            wanted = any(kind["kind"] != "dev" for kind in edge["dep_kinds"])
            if wanted and edge["pkg"] not in reached:
                reached.add(edge["pkg"])
                waiting.append(edge["pkg"])
    used = [packages[package] for package in sorted(reached - {root})]

    licences = set(rules["licenses"]["allow"])
    banned = {rule["name"] for rule in rules["bans"]["deny"]}
    skipped = [(rule["name"], rule["version"]) for rule in rules["bans"]["skip"]]
    wrong = []
    versions: dict[str, list[str]] = {}
    for package in used:
        name, version = package["name"], package["version"]
        if not allowed(package["license"] or "", licences):
            wrong.append(f"{name} {version} is under {package['license']}, which deny.toml does not allow")
        if name in banned:
            wrong.append(f"{name} {version} is banned")
        if package["source"] != CRATES_IO:
            wrong.append(f"{name} {version} comes from {package['source']} and not from crates.io")
        if not any(name == skip and f"{version}.".startswith(f"{old}.") for skip, old in skipped):
            versions.setdefault(name, []).append(version)
    for name, several in versions.items():
        if len(several) > 1:
            wrong.append(f"{name} is there in versions {', '.join(several)}; deny.toml skips none of them")
    for line in wrong:
        print(f"check-crates: {line}", file=sys.stderr)
    print(f"check-crates: {len(used)} crates, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
