"""One job, as on a fresh machine: runs what a file says in a mount namespace of its own and writes down what it took.

python3 -m harness.job FILE, where FILE is JSON:
  store   the root of the job's store
  settle  whether what was written before must be on the disk when a step begins
  meter   {"url": ...} of the service's numbers, or {"folder": ...} of a binary cache
  steps   in order, each {"name", "command", "folder", "env"}, and if wanted "ready": the paths that must be valid and readable
          before the clock stops, or "reads": {"paths", "readers", "compute"}: a job that reads all files of these paths and computes for
          so many seconds before the clock stops, or "aside": it is not measured; or {"change": paths, "from": root, "environment": path}, which is not measured
It prints one JSON object, a figure for each name.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Failed(Exception):
    """A step went wrong; the text says how."""


def bytes_below(folder):
    """The bytes of all files below a folder."""
    return sum(entry.stat().st_size for entry in Path(folder).rglob("*") if entry.is_file())


def cached_bytes(folder, paths):
    """What of a binary cache must be read to have these paths."""
    total = 0
    for path in paths:
        narinfo = Path(folder, Path(path).name[:32] + ".narinfo")
        total += narinfo.stat().st_size + int(re.search(r"^FileSize: (\d+)$", narinfo.read_text(), re.M)[1])
    return total


def read_meter(meter):
    """Bytes that went up and down so far, and that are held now."""
    if "folder" in meter:
        held = bytes_below(meter["folder"])
        return {"up": held, "down": 0, "held": held}
    with urllib.request.urlopen(meter["url"]) as answer:
        numbers = json.load(answer)
    return {"up": numbers["bytes_up"], "down": numbers["bytes_down"], "held": numbers["stored_bytes"]}


def valid(store, env):
    """The paths that Nix knows in a store."""
    command = ["nix", "path-info", "--all", "--store", store]
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def require(store, wanted, env):
    """Asks Nix for all paths, and fails if one that is wanted is not among them."""
    known = set(valid(store, env))
    missing = [path for path in wanted if path not in known]
    if missing:
        raise Failed(f"{len(missing)} paths are not valid after the restore, such as {missing[0]}")


def first_file(path):
    """The first file at or below a path, in the order of names; none if there are only directories and links."""
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except NotADirectoryError:
        return path
    except FileNotFoundError:
        # A path that is a link, and leads to where only a build would see it.
        return None
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            return entry.path
        if entry.is_dir(follow_symlinks=False) and (below := first_file(entry.path)):
            return below
    return None


def read_first(path):
    """Reads the first byte of the first file of a path."""
    if file := first_file(path):
        with open(file, "rb", buffering=0) as opened:
            opened.read(1)


def await_ready(store, wanted, env):
    """Asks Nix for all paths, and reads the first file of each that is wanted, by as many threads as there are processors."""
    require(store, wanted, env)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda path: read_first(store + path), wanted, chunksize=64))


def files_below(path):
    """All files at or below a path, in the order of names."""
    if os.path.isfile(path) and not os.path.islink(path):
        return [path]
    found = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        found += [file for name in sorted(files) if not os.path.islink(file := os.path.join(folder, name))]
    return found


def work(store, reads, env, start):
    """Does what a job does: reads all files of some paths, in order, and computes in between. Returns when it could begin."""
    require(store, reads["paths"], env)
    read_first(store + reads["paths"][0])
    begun = time.monotonic() - start
    pause = reads["compute"] * reads["readers"] / len(reads["paths"])

    def read(path):
        for file in files_below(store + path):
            with open(file, "rb", buffering=0) as opened:
                while opened.read(1 << 20):
                    pass
        # As long as the processor would be busy with it.
        time.sleep(pause)

    with ThreadPoolExecutor(reads["readers"]) as pool:
        list(pool.map(read, reads["paths"]))
    return begun


def timed(step, store):
    """Runs a step's command to its end, and until the store is ready if that is wanted."""
    env = step["env"]
    with open(step["log"], "w+") as said, open(step["log"] + ".errors", "w+") as errors:
        start, start_time = time.monotonic(), time.time_ns()
        child = subprocess.Popen(step["command"], cwd=step["folder"], env=env, stdout=said, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        done = time.monotonic()
    said, errors = (Path(step["log"] + end).read_text() for end in ("", ".errors"))
    check(step, child.returncode, said, errors)
    figure = {
        "command-seconds": done - start,
        "cpu-seconds": usage.ru_utime + usage.ru_stime,
        "peak-bytes": usage.ru_maxrss * 1024,
    }
    if "ready" in step:
        await_ready(store, step["ready"], env)
    if "reads" in step:
        figure["begun-seconds"] = work(store, step["reads"], env, start)
    figure["seconds"] = time.monotonic() - start
    if step.get("reads", {}).get("again"):
        again = time.monotonic()
        work(store, step["reads"], env, again)
        figure["there-seconds"] = time.monotonic() - again
    figure["local-seconds"] = after_download(step, said, figure, start_time)
    return figure


def check(step, code, said, errors):
    """Whether the command did what it was to do: to these programs a cache that fails is a miss, and no failure."""
    fine = step.get("aside") and code == 0 or code == 0 and re.search(step.get("expect", ""), said) and not errors.count("WARN")
    if not fine:
        command = " ".join(step["command"])[:300]
        raise Failed(f"{step['name']} went wrong ({command} ended with {code}): {said[-2000:]}{errors[-2000:]}")


def after_download(step, said, figure, start_time):
    """The part of a restore that begins when everything lies on the local disk; none where that cannot be told."""
    if step.get("times"):
        begin = int(Path(step["times"]).read_text().split()[-2])
        return figure["seconds"] - (begin - start_time) / 1e9
    if step.get("phases"):
        outcome = json.loads(said)
        figure["phases"] = {phase["name"]: phase["seconds"] for phase in outcome["phases"]}
        if isinstance(outcome.get("layers"), list):
            figure["entries"] = len(outcome["layers"])
        return figure["seconds"] - sum(figure["phases"].get(name, 0) for name in ("snapshot", "fetch"))
    return None


def change(step, store):
    """Brings the paths that a build would have made into the store, and makes the new environment its root."""
    env = step["env"]
    new = sorted(set(step["change"]) - set(valid(store, env)))
    export = subprocess.Popen(["nix-store", "--store", step["from"], "--export", *new], env=env, stdout=subprocess.PIPE)
    subprocess.run(["nix-store", "--store", store, "--import"], env=env, check=True, stdin=export.stdout, stdout=subprocess.DEVNULL)
    if export.wait() != 0:
        raise Failed("the changed paths cannot be exported")
    root = Path(store, "nix/var/nix/gcroots/result")
    root.unlink(missing_ok=True)
    root.symlink_to(step["environment"])


def main(file):
    job = json.loads(Path(file).read_text())
    figures = {}
    for step in job["steps"]:
        if "change" in step:
            change(step, job["store"])
            continue
        if job["settle"]:
            os.sync()
        before = read_meter(job["meter"])
        figure = timed(step, job["store"])
        after = read_meter(job["meter"])
        figure |= {"up": after["up"] - before["up"], "down": after["down"] - before["down"], "held": after["held"]}
        if "folder" in job["meter"] and ("ready" in step or "reads" in step):
            figure["down"] = cached_bytes(job["meter"]["folder"], valid(job["store"], step["env"]))
        if not step.get("aside"):
            figures[step["name"]] = figure
    print(json.dumps(figures))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Failed as failed:
        sys.exit(f"compare: {failed}.")
