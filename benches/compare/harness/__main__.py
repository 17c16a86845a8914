"""The comparison: reads the arguments, runs the rounds, prints the tables. `run.sh` calls it when all is set up."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from . import layers, machine, rounds, shapes
from .candidates import Place, candidates
from .table import tables

PROJECT = Path(__file__).parents[3]
ROUNDS = {"main": rounds.main_round, "bump": rounds.bump_round, "commits": rounds.commits_round, "jobs": shapes.jobs_round, "layers": layers.layers_round}
# What takes part where not everything does.
ABLE = {"main": ("tar", "mount", "unpack", "nix copy"), "jobs": ("tar", "mount", "stream", "nix copy", "substituter"), "layers": ("stream",)}
OTHERS = ("tar", "mount", "nix copy")


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare/run.sh", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is done")
    parser.add_argument("--repeat", type=int, default=3, help="rounds whose median is taken (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a small store and one round, to try the script itself")
    parser.add_argument("--cases", default="main,bump,commits,jobs", help="main (cold save, restore, nothing changed, 5 %% changed), bump, commits, jobs (reading and computing), layers (few and many)")
    parser.add_argument("--links", default="link,local", help="link (the model of a hosted runner's), local (no limit)")
    parser.add_argument("--candidates", default="tar,mount,unpack,stream,nix copy,substituter", help="tar is what the ratios refer to")
    return parser.parse_args()


def environment(folder):
    """What every command gets: nothing of this machine's configuration, and no substituter."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "NIX_CONF_DIR": str(folder / "home/conf"),
        "NIX_USER_CONF_FILES": "",
        "NIX_CONFIG": "experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =",
    }


def make_base(folder, states, env):
    """A root with the base state alone, which the cold saves save."""
    base = folder / "base"
    if not (base / "done").exists():
        command = ["nix", "copy", "--no-check-sigs", "--from", folder / "store", "--to", base, *states["base"]["paths"]]
        subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)
        (base / "nix/var/nix/gcroots/result").symlink_to(states["base"]["environment"])
        (base / "done").touch()
    return str(base)


def nar_bytes(store, env):
    """The size of everything that is valid in a store."""
    command = ["nix", "path-info", "--all", "--size", "--store", store]
    said = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return sum(int(line.split()[-1]) for line in said.splitlines())


def main():
    chosen = arguments()
    folder = chosen.folder.resolve()
    env = environment(folder)
    states = json.loads((folder / "states.json").read_text())
    base = make_base(folder, states, env)
    target = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")) / "release"
    place = Place(str(target / "nix-cache"), str(target / "examples/dev-server"), str(target / "examples/binary-cache"), PROJECT / "tests/node", rounds.HERE / "shims", env)
    work = folder / "jobs"
    machine.remove([work], wait=False)
    bench = rounds.Bench(candidates(place), env, work, str(folder / "store"), base, states, wait=not chosen.quick)
    about = machine.describe() | {"rounds": chosen.repeat, "paths": len(states["base"]["paths"]), "nar-bytes": nar_bytes(base, env)}
    names = [name for name in bench.candidates if name in chosen.candidates.split(",")]
    result = folder / "result.json"
    if bench.wait:
        machine.touch_memory()
    for case in chosen.cases.split(","):
        for link in chosen.links.split(","):
            # Ten commits are for bytes, which are the same on every link.
            if case == "commits" and link == "link" and "local" in chosen.links:
                continue
            able = [name for name in names if name in ABLE.get(case, OTHERS)]
            for number in range(1 if case == "commits" else chosen.repeat):
                ROUNDS[case](bench, able, link == "link", number)
                result.write_text(json.dumps({"about": about, "figures": bench.figures}, indent=1))
                bench.clear()
    text = tables(bench.figures, about)
    (folder / "result.md").write_text(text)
    print(f"\n{text}\nEvery figure: {result}", file=sys.stdout)


if __name__ == "__main__":
    main()
