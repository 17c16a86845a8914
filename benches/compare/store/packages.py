"""Unpacks the packages of FOLDER/debs and prints what there is to build, as JSON for store.nix.

packages.py FOLDER
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What goes into which output, where a package has it.
OUTPUTS = {"dev": "usr/include", "doc": "usr/share/doc", "man": "usr/share/man"}


def fields(deb):
    """The control fields of a package that matter here."""
    text = subprocess.check_output(["dpkg-deb", "--field", deb, "Package", "Version", "Depends", "Provides"], text=True)
    return {"deb": deb} | dict(re.findall(r"^(\S+): (.*)$", text, re.M))


def names(relations):
    """The package names in a field of relations, alternatives included."""
    return [name.strip().split(" ")[0].split(":")[0] for name in re.split(r"[,|]", relations) if name.strip()]


def dependencies(packages):
    """The references of each package to others, without those that would close a circle."""
    providers = {}
    for name in sorted(packages):
        for provided in names(packages[name].get("Provides", "")):
            providers.setdefault(provided, name)
    wanted = {}
    for name, package in packages.items():
        found = [other if other in packages else providers.get(other) for other in names(package.get("Depends", ""))]
        wanted[name] = sorted({other for other in found if other and other != name})
    kept, open_now = {}, set()

    def visit(name):
        open_now.add(name)
        kept[name] = []
        for other in wanted[name]:
            if other in open_now:
                continue
            if other not in kept:
                visit(other)
            kept[name].append(other)
        open_now.remove(name)

    sys.setrecursionlimit(10_000)
    for name in sorted(packages):
        if name not in kept:
            visit(name)
    return kept


def unpack(package, into):
    """Unpacks one package, readable for everybody and without special bits, which a store cannot hold."""
    subprocess.check_call(["dpkg-deb", "--extract", package["deb"], into])
    subprocess.check_call(["chmod", "-R", "u=rwX,go=rX", into])


def sizes(folder):
    """How many files there are below a folder, and their bytes."""
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    sizes = [file.stat().st_size for file in files if not file.is_symlink()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def main(folder):
    with ThreadPoolExecutor(2) as pool:
        packages = {package["Package"]: package for package in pool.map(fields, sorted(folder.glob("debs/*.deb")))}
        unpacked = folder / "unpacked"
        unpacked.mkdir(exist_ok=True)
        list(pool.map(lambda name: unpack(packages[name], unpacked / name), sorted(packages)))
    needs = dependencies(packages)
    allowed = re.compile(r"[^A-Za-z0-9+._-]")
    print(json.dumps({
        name: {
            "version": allowed.sub("-", packages[name]["Version"]),
            "outputs": ["out"] + [output for output, place in OUTPUTS.items() if (unpacked / name / place).is_dir()],
            "needs": needs[name],
        } | sizes(unpacked / name)
        for name in sorted(packages)
    }, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
