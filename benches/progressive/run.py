#!/usr/bin/env python3
"""Measures what saving while the job runs (`progressive`) saves in the post step, and by how much it slows the build.

  benches/progressive/run.py --binary target/release/nix-cache --server target/release/examples/dev-server [--folder DIR] [--repeat N]
                             [--case post|build] [--paths N] [--mib N] [--seconds N] [--local] [--history] [--quick-off] [--before FILE]
                             [--requests FOLDER]

A job restores nothing, builds `--paths` derivations of `--mib` MiB each, half of it incompressible, and saves in its post step, through
the fake cache service with the model of a hosted runner's link (not with `--local`). Jobs with `progressive: auto` and `off` alternate;
printed are the medians of the times of the build and of the post step, and the median of the ratios of the pairs.
- post: the builds wait, `--seconds` in all. The minute between two saves is scaled to a tenth of that. With `--quick-off`, those of `off`
  do not wait: how long they took changes nothing for its post step. With `--before`, `off` runs that binary: an earlier version.
- build: the builds compute on all processors for about `--seconds`, with the real minute.
With `--history`, each job is also added to the history, as is the default. With `--requests`, the requests of each post step and when they
came are written to that folder. The machine must be quiet. Nothing outside of the folder is touched.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = "substituters =\nbuild-users-group =\nsandbox = false\nsandbox-paths =\nmax-jobs = auto\n"
DERIVATION = """
{ system, tools, count, mib, wait, work, salt }:
let
  # It takes its name for what it is to do.
  sh = "${builtins.path { path = tools; name = "tools"; }}/busybox";
  make = n: derivation {
    inherit system salt wait work mib;
    name = "part-${toString n}";
    number = n;
    builder = sh;
    args = [ "sh" "-c" ''
      ${sh} sleep $wait
      ${sh} dd if=/dev/zero bs=1048576 count=$work 2>/dev/null | ${sh} sha256sum >/dev/null
      ${sh} mkdir $out
      ${sh} dd if=/dev/urandom of=$out/random bs=524288 count=$mib 2>/dev/null
      ${sh} yes "$salt $number" | ${sh} head -c $((mib * 524288)) >$out/text
    '' ];
  };
in
map make (builtins.genList (n: n) count)
"""


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        (folder / "home").mkdir()
        (folder / "tools").mkdir()
        shutil.copy(shutil.which("busybox"), folder / "tools/busybox")
        (folder / "default.nix").write_text(DERIVATION)
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(folder / "home"), "NIX_CONF_DIR": str(folder / "none"), "NIX_CONFIG": CONFIG,
        }

    def serve(self, place, log):
        link = [] if self.options.local else ["--link"]
        command = [self.options.server, "--dir", place, "--log", log, *link]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        variables = {}
        # The token for REST, which comes last, is not needed.
        while "GITHUB_REPOSITORY" not in variables:
            line = server.stdout.readline()
            if not line:
                raise SystemExit("progressive: the fake cache service did not start.")
            name, value = line.removeprefix("export ").strip().split("=", 1)
            variables[name] = value
        return server, variables

    def job(self, number, progressive, wait, work):
        """One job. Returns the seconds of its build and of its post step, and what its report says of the save."""
        place = self.folder / f"job-{number}-{progressive}"
        store = place / "store"
        store.mkdir(parents=True)
        log = place / "requests.jsonl"
        server, variables = self.serve(place / "service", log)
        runner = {name: str(place / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")}
        for file in runner.values():
            Path(file).touch()
        for folder in ("temp", "workspace"):
            (place / folder).mkdir()
        inputs = {"key": "bench", "progressive": progressive, "history": "auto" if self.options.history else "false", "job-status": "success"}
        env = {
            **self.env, **variables, **runner, "GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": str(number), "GITHUB_JOB": "bench",
            "RUNNER_ENVIRONMENT": "self-hosted", "RUNNER_TEMP": str(place / "temp"), "GITHUB_WORKSPACE": str(place / "workspace"), "NIX_CACHE_STORE_ROOT": str(store),
            "NIX_CACHE_INPUTS": json.dumps(inputs),
        }
        is_waiting = wait > 0
        wait = 0 if self.options.quick_off and progressive == "off" else wait
        if is_waiting:
            interval = self.options.seconds * 1000 // 10
            env["NIX_CACHE_TUNING"] = f"checkpoint_interval={interval},checkpoint_look={interval // 12}"
        nix = ["nix-store", "--store", store, "--init"]
        subprocess.run(nix, env=self.env, check=True)
        self.step("restore", env, self.options.before if progressive == "off" else None)
        arguments = {"count": self.options.paths, "mib": self.options.mib, "wait": wait, "work": work}
        command = ["nix-build", "--store", store, "--no-out-link", self.folder / "default.nix"]
        command += ["--argstr", "system", f"{os.uname().machine}-linux", "--arg", "tools", self.folder / "tools", "--argstr", "salt", str(place)]
        if wait:
            command += ["--max-jobs", "1"]
        for name, value in arguments.items():
            command += ["--arg", name, str(value)]
        start = time.monotonic()
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"progressive: the build failed:\n{done.stderr}")
        built = time.monotonic() - start
        before = log.stat().st_size
        binary = self.options.before if progressive == "off" else None
        start = time.monotonic()
        self.step("post", env, binary)
        posted = time.monotonic() - start
        if self.options.requests:
            (self.options.requests / f"{number}-{progressive}.jsonl").write_bytes(log.read_bytes()[before:])
        report = json.loads(next(place.glob("temp/nix-cache/**/report.json")).read_text())
        server.send_signal(signal.SIGINT)
        server.wait()
        subprocess.run(["chmod", "-R", "u+w", place], check=True)
        shutil.rmtree(place)
        return built, posted, report["save"]

    def step(self, name, env, binary=None):
        done = subprocess.run([binary or self.options.binary, "action", name], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"progressive: {name} failed:\n{done.stdout}{done.stderr}")

    def compare(self, name, wait, work):
        pairs = []
        for number in range(self.options.repeat):
            kinds = ["auto", "off"] if number % 2 else ["off", "auto"]
            found = {kind: self.job(number, kind, wait, work) for kind in kinds}
            saved = found["auto"][2]
            if saved["outcome"] != "saved" or (wait and not saved["running"]["saves"]):
                raise SystemExit(f"progressive: nothing was saved while the job ran: {saved}")
            pairs.append((found["auto"], found["off"]))
            times = {kind: [round(seconds, 2) for seconds in job[:2]] for kind, job in found.items()}
            print(f"{name}, build and post step in seconds: {times}, {saved['running']}", file=sys.stderr, flush=True)
        for measure, part in enumerate(["build", "post step"]):
            auto, off = (statistics.median(pair[index][measure] for pair in pairs) for index in (0, 1))
            ratio = statistics.median(one[measure] / other[measure] for one, other in pairs)
            print(f"| {name}: {part} | {auto:.2f} s | {off:.2f} s | {ratio:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--server", required=True, type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--case", choices=["post", "build"], action="append")
    parser.add_argument("--paths", type=int, default=40)
    parser.add_argument("--mib", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=120)
    for name in ("local", "history", "quick-off"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("before", "requests"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve())
    options = parser.parse_args()
    options.binary, options.server = options.binary.resolve(), options.server.resolve()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="progressive-") as folder:
        bench = Bench(options, Path(folder))
        print("| case | `auto` | `off` | ratio |\n|---|---:|---:|---:|", flush=True)
        if "post" in (options.case or ["post"]):
            bench.compare("builds that wait", max(1, options.seconds // options.paths), 0)
        if "build" in (options.case or ["build"]):
            # About 150 MiB are hashed in a second.
            work = options.seconds * 150 * (os.cpu_count() or 1) // options.paths
            bench.compare("builds that use all processors", 0, work)


main()
