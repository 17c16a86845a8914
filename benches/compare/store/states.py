"""Builds every state of the store FOLDER/store and writes FOLDER/states.json.

states.py FOLDER
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

COMMITS = 10


def shuffled(names):
    """The names in an order that is the same everywhere and has nothing to do with them."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def needed_by(packages):
    """For each package, all that must be rebuilt when it changes, itself included."""
    direct = {name: [] for name in packages}
    for name, package in packages.items():
        for need in package["needs"]:
            direct[need].append(name)
    closures = {}
    for name in packages:
        found, ahead = {name}, [name]
        while ahead:
            new = [other for other in direct[ahead.pop()] if other not in found]
            found.update(new)
            ahead.extend(new)
        closures[name] = found
    return closures


def share(packages, names):
    """Which part of all packages these are, by number and by bytes."""
    total = sum(package["bytes"] for package in packages.values())
    return len(names) / len(packages), sum(packages[name]["bytes"] for name in names) / total


def up_to(packages, names, limit):
    """As many of the names, in order, as come to no more than the share `limit`, by number and by bytes."""
    chosen = []
    for name in names:
        if max(share(packages, [*chosen, name])) <= limit:
            chosen.append(name)
    return chosen


def states(packages):
    """What each state changed: for each package that was, how often. `bump` goes on from `changed`, a commit from the last."""
    rebuilt = needed_by(packages)
    leaves = shuffled(name for name in packages if len(rebuilt[name]) == 1)
    changed = {name: 1 for name in up_to(packages, leaves, 0.05)}
    # A changed source deep in the closure, which takes about a third of all with it.
    deep = min(packages, key=lambda name: (sum(abs(part - 0.3) for part in share(packages, rebuilt[name])), name))
    result = {"base": {}, "changed": changed, "bump": changed | {deep: 1}}
    # The project itself changes with every commit, and each time one more package.
    small = [name for name in reversed(leaves) if share(packages, [name])[1] < 0.015]
    project = max(small, key=lambda name: packages[name]["files"])
    others = [name for name in small if name != project]
    commits = {}
    for number in range(1, COMMITS + 1):
        commits = commits | {project: number, others[number % len(others)]: number}
        result[f"commit-{number}"] = commits
    return result


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def build(folder, revisions):
    """Builds a state and gives the paths of its closure, derivations included, and the environment."""
    store = ["--store", str(folder / "store")]
    arguments = ["--argstr", "revisions", json.dumps(revisions), "--argstr", "system", f"{platform.machine()}-linux"]
    expression = str(folder / "source/store.nix")
    root = str(folder / "root.drv")
    run("nix-instantiate", *store, expression, *arguments, "--add-root", root)
    derivation = os.readlink(root)
    with open(folder / "build.log", "a") as log:
        subprocess.run(["nix-store", *store, "--realise", derivation], check=True, stdout=log, stderr=log)
    (environment,) = run("nix-store", *store, "--query", "--outputs", derivation)
    return environment, sorted(run("nix-store", *store, "--query", "--requisites", environment, derivation))


def main(folder):
    packages = json.loads((folder / "source/packages.json").read_text())
    made, before = {}, set()
    for name, revisions in states(packages).items():
        environment, paths = build(folder, revisions)
        made[name] = {"environment": environment, "paths": paths}
        print(f"{name}: {len(paths)} paths, {len(set(paths) - before)} of them not in a state before", file=sys.stderr)
        before.update(paths)
    (folder / "states.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
