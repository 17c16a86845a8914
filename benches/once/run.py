#!/usr/bin/env python3
"""Measures what evaluating once saves: ten machines over a common base, planned and then handed to one job each.

  benches/once/run.py --binary target/release/nix-cache [--folder DIR] [--nix DIR] [--hosts N] [--modules N]

Compared are the CPU times (user and system, of all processes) of
- one evaluation of each machine;
- a plan, and jobs that evaluate their machine again (`nix build ATTR`);
- a plan that saves its derivations, and jobs that restore and build these (`nix-cache build --drvs`).
Nothing is built (`--dry-run`): a build costs the same in all cases. Each job has an empty store. Then one machine is changed, and
the bytes are counted that the second plan adds to the cache. A directory is the cache. That second plan is measured three times: with what
the cache knows of the first; without, where it evaluates the base as well; and without, where a substituter (a web server of this
script, with an index of them only) has the machines of the base. `--modules` sets how long a machine takes.
"""
import argparse
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTHING = "0" * 40
# As flake.nix has it.
MODULES = "modules = 1800;"
CONFIG = "experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nwarn-dirty = false\n"


class Bench:
    def __init__(self, folder, binary, nix, hosts, modules):
        self.folder, self.binary, self.hosts = folder, binary, hosts
        self.repository, self.cache = folder / "repository", folder / "cache"
        path = [str(nix)] if nix else []
        self.env = {
            **{name: os.environ[name] for name in ("LANG",) if name in os.environ},
            "PATH": os.pathsep.join(path + [os.environ["PATH"]]),
            "HOME": str(folder / "home"), "NIX_CONF_DIR": str(folder / "none"), "NIX_CONFIG": CONFIG,
            "GIT_CEILING_DIRECTORIES": str(folder),
        }
        (folder / "home").mkdir()
        (self.repository / "hosts").mkdir(parents=True)
        flake = (HERE / "flake.nix").read_text()
        assert MODULES in flake
        (self.repository / "flake.nix").write_text(flake.replace(MODULES, f"modules = {modules};"))
        (self.repository / "builder").write_text("nothing is ever built\n")
        for number in range(hosts):
            self.write_host(number, "first")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def write_host(self, number, text):
        host = f'[ {{ option = "service-{number}"; value = "host {number}, {text}"; }} ]\n'
        (self.repository / "hosts" / f"h{number}.nix").write_text(host)

    def git(self, *arguments):
        who = ["-c", "user.name=b", "-c", "user.email=b@b"]
        done = subprocess.run(["git", *who, *arguments], cwd=self.repository, env=self.env, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "m")

    def run(self, *arguments):
        """CPU and wall seconds, and the output, of a command."""
        start = time.monotonic()
        child = subprocess.Popen(arguments, env=self.env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = tempfile.TemporaryFile()
        said = []
        reader = threading.Thread(target=lambda: said.append(child.stderr.read()))
        reader.start()
        shutil.copyfileobj(child.stdout, out)
        reader.join()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"{arguments} failed:\n{said[0].decode()}")
        out.seek(0)
        return usage.ru_utime + usage.ru_stime, time.monotonic() - start, out.read().decode()

    def store(self, name):
        return str(self.folder / name)

    def attribute(self, number):
        return f"nixosConfigurations.h{number}.config.system.build.toplevel"

    def plan(self, store, base, *more, substituters=("--no-substituters",)):
        return self.run(
            self.binary, "plan", "--quiet", "--project", str(self.repository), "--store-root", self.store(store), "--base", base,
            *substituters, "--no-retry", "--workers", "1", "--remote", f"dir:{self.cache}", "--keep", "--format", "matrix", *more,
        )

    def bytes(self):
        return sum(file.stat().st_size for file in self.cache.rglob("*") if file.is_file())


class Substituter(http.server.BaseHTTPRequestHandler):
    """Has these store paths, or so it says."""

    paths = {}

    def do_GET(self):
        name = self.path.removeprefix("/").removesuffix(".narinfo")
        text = "StoreDir: /nix/store\n" if name == "nix-cache-info" else None
        if name in self.paths:
            hash = "sha256:" + "0" * 52
            text = f"StorePath: {self.paths[name]}\nURL: nar/x.nar\nCompression: none\nNarHash: {hash}\nNarSize: 1\nReferences: \n"
        self.send_response(200 if text else 404)
        self.send_header("Content-Length", str(len(text or "")))
        self.end_headers()
        self.wfile.write((text if self.command == "GET" and text else "").encode())

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def total(runs):
    runs = list(runs)
    return sum(run[0] for run in runs), sum(run[1] for run in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder")
    parser.add_argument("--nix", help="a folder with the Nix to use")
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--modules", type=int, default=1800, help="modules of a machine; its evaluation takes longer with each")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="once-", dir=given.folder)).resolve()
    bench = Bench(folder, str(Path(given.binary).resolve()), given.nix, given.hosts, given.modules)
    hosts, flake = range(given.hosts), f"git+file://{folder}/repository"
    try:
        rows = []
        evaluated = total(
            bench.run("nix", "eval", "--raw", "--option", "eval-cache", "false", "--store", bench.store("eval"), f"{flake}#{bench.attribute(n)}.drvPath")
            for n in hosts
        )
        rows.append(("one evaluation of each machine", evaluated))
        plan = bench.plan("plan-only", NOTHING)
        jobs = total(
            bench.run("nix", "build", "--dry-run", "--option", "eval-cache", "false", "--store", bench.store(f"attr-{n}"), f"{flake}#{bench.attribute(n)}")
            for n in hosts
        )
        rows.append(("plan, and jobs that evaluate", (plan[0] + jobs[0], plan[1] + jobs[1])))
        shutil.rmtree(bench.cache)
        plan = bench.plan("plan-once", NOTHING, "--save-drvs")
        first = bench.bytes()
        matrix = json.loads(plan[2])["include"]
        assert len(matrix) == given.hosts and all(job["drvs"] for job in matrix), matrix
        jobs = total(
            bench.run(
                bench.binary, "build", "--quiet", job["attrs"], "--drvs", job["drvs"], "--remote", f"dir:{bench.cache}", "--no-link",
                "--flake", "path:/does/not/exist", "--store-root", bench.store(f"job-{number}"), "--", "--dry-run",
            )
            for number, job in enumerate(matrix)
        )
        rows.append(("plan that saves, and jobs that build derivations", (plan[0] + jobs[0], plan[1] + jobs[1])))
        rows.append(("  of that, the plan", plan[:2]))
        rows.append(("  of that, the jobs", jobs))
        before = bench.git("rev-parse", "HEAD")
        bench.write_host(0, "second")
        bench.commit()
        plan = bench.plan("plan-changed", "HEAD^", "--save-drvs")
        changed = json.loads(plan[2])["include"]
        assert len(changed) == 1 and changed[0]["drvs"], changed
        added = bench.bytes() - first
        rows.append(("plan of a change of one machine, base known", plan[:2]))
        shutil.rmtree(bench.cache)
        plan = bench.plan("plan-base", "HEAD^")
        assert [job["attrs"] for job in json.loads(plan[2])["include"]] == [job["attrs"] for job in changed], plan
        rows.append(("plan of a change of one machine, base evaluated as well", plan[:2]))
        shutil.rmtree(bench.cache)
        for n in hosts:
            path = bench.run("nix", "eval", "--raw", "--store", bench.store("eval"), f"{flake}?rev={before}#{bench.attribute(n)}.outPath")[2]
            Substituter.paths[Path(path).name.split("-")[0]] = path
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Substituter) as server:
            threading.Thread(target=server.serve_forever).start()
            bench.env["NIX_CONFIG"] = CONFIG.replace("substituters =", f"substituters = http://127.0.0.1:{server.server_port}")
            plan = bench.plan("plan-held", "HEAD^", substituters=())
            server.shutdown()
        assert [job["attrs"] for job in json.loads(plan[2])["include"]] == [job["attrs"] for job in changed], plan
        rows.append(("plan of a change of one machine, base evaluated for what no cache has", plan[:2]))
        print("| | CPU | of one evaluation | wall |\n|---|---:|---:|---:|")
        for name, (cpu, wall) in rows:
            print(f"| {name} | {cpu:.1f} s | {cpu / evaluated[0]:.2f} | {wall:.1f} s |")
        print(f"\nThe entry of the first plan: {first:,} bytes. Added by a change of one machine: {added:,} bytes ({added / first:.1%}).")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
