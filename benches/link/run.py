#!/usr/bin/env python3
"""Measures saves and restores through GitHub's cache and through an object store, over the same model of the way from a hosted runner.

  benches/link/run.py --binary dist/nix-cache-x86_64-linux --dev-server target/release/examples/dev-server [--rounds N] [--megabytes N]

Both services are programs of this repository: `examples/dev-server.rs --link`, and `benches/link/s3.py`. A store gets paths with bytes that do
not compress; they are saved and, on another empty store, restored and mounted, in turn through one and the other. Printed are the
medians, what the object store takes compared with GitHub's cache, and the peak memory of the program. It must be root, to mount.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "bench/secret+key", "AWS_REGION": "us-east-1"}


def github(dev_server, folder):
    """Starts a cache service. Returns its process, the remote and what the environment needs."""
    process = subprocess.Popen([dev_server, "--dir", folder, "--link"], stdout=subprocess.PIPE, text=True)
    env = {}
    while "GITHUB_TOKEN" not in env:
        name, value = process.stdout.readline().removeprefix("export ").strip().split("=", 1)
        env[name] = value
    return process, "github", env


def bucket(folder):
    """The same for an object store."""
    command = [sys.executable, HERE / "s3.py", folder]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, f"s3://bench/ci?endpoint={process.stdout.readline().strip()}", KEYS


class Bench:
    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "NIX_CONF_DIR": str(folder / "none"),
            "NIX_CONFIG": "substituters =\nbuild-users-group =\nsandbox = false\n",
        }

    def fill(self, root):
        """Makes store paths of 20 MB each."""
        chance = random.Random(1)
        for number in range(self.options.megabytes // 20):
            file = self.folder / f"path-{number}"
            file.write_bytes(chance.randbytes(20_000_000))
            subprocess.run(["nix-store", "--store", str(root), "--add", file], env=self.env, check=True, stdout=subprocess.DEVNULL)
            file.unlink()

    def run(self, verb, root, remote, env, *more):
        """Runs nix-cache in a mount namespace of its own. Returns seconds and peak bytes."""
        command = [self.options.binary, verb, "--remote", remote, "--store-root", str(root), "--primary-key", "bench", "--quiet", "--format", "json", *more]
        out = self.folder / "out"
        start = time.monotonic()
        with open(out, "w") as stdout:
            process = subprocess.Popen(["unshare", "--mount", *command], env=self.env | env, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        outcome = json.loads(out.read_text())
        if verb == "restore":
            assert status == 0 and outcome["hit"] == "exact" and outcome["paths-lost"] == 0, outcome
        else:
            assert status == 0 and outcome["saved"], outcome
        return seconds, usage.ru_maxrss * 1024

    def round(self, number, name, begin):
        place = self.folder / f"{number}-{name}"
        (place / "service").mkdir(parents=True)
        process, remote, env = begin(place / "service")
        try:
            full, empty = place / "full", place / "empty"
            # A save leaves records beside the store.
            shutil.copytree(self.folder / "store", full, symlinks=True)
            saved = self.run("save", full, remote, env)
            restored = self.run("restore", empty, remote, env, "--restore-mode", "mount")
            return {"save": saved, "restore": restored}
        finally:
            process.kill()
            process.wait()
            subprocess.run(["chmod", "--recursive", "u+w", place], check=True)
            shutil.rmtree(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=lambda path: str(Path(path).resolve()), required=True)
    parser.add_argument("--dev-server", type=lambda path: str(Path(path).resolve()), required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--folder", help="where everything is done: not below a world-writable folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-link-", dir=options.folder or HERE.parent.parent / "target"))
    try:
        bench = Bench(folder, options)
        bench.fill(folder / "store")
        both = {"github": lambda place: github(options.dev_server, place), "s3": bucket}
        results = {name: [] for name in both}
        for number in range(options.rounds):
            for name, begin in both.items():
                results[name].append(bench.round(number, name, begin))
                print(number, name, {verb: round(seconds, 1) for verb, (seconds, _) in results[name][-1].items()}, file=sys.stderr)
        print("| | GitHub's cache | object store | throughput, object store / GitHub's cache |\n|---|---:|---:|---:|")
        for verb in ["save", "restore"]:
            of = {name: statistics.median(result[verb][0] for result in results[name]) for name in both}
            ratio = statistics.median(one[verb][0] / other[verb][0] for one, other in zip(results["github"], results["s3"]))
            print(f"| {verb} of {options.megabytes} MB | {of['github']:.1f} s | {of['s3']:.1f} s | {ratio:.2f} |")
        peak = {name: max(result[verb][1] for result in results[name] for verb in result) / 2**20 for name in both}
        print(f"| peak memory | {peak['github']:.0f} MiB | {peak['s3']:.0f} MiB | |")
    finally:
        subprocess.run(["chmod", "--recursive", "u+w", folder], check=False)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
