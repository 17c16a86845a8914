"""Jobs that stream a store from few layers and from many, and from one that is a recipe of others."""

import subprocess
from dataclasses import replace

from . import machine
from .rounds import close, fill
from .shapes import Shape, run

# After so many saves, each of three quarters of what the one before it added: nothing is small enough to be packed again.
SAVES = (1, 3, 8)
SHRINKS = 0.75
SHARE = 0.2


def sized(store, paths, env):
    """The paths with the bytes of their NARs; everything that a path refers to comes before it."""
    query = ["nix-store", "--store", store, "--query"]
    ordered = subprocess.run([*query, "--requisites", *paths], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    sizes = subprocess.run([*query, "--size", *ordered], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return list(zip(ordered, map(int, sizes)))


def parts(paths, count):
    """Of paths with their sizes, those that are there after each of `count` saves."""
    shares = [SHRINKS**number for number in range(count)]
    whole = sum(size for _, size in paths)
    ends = [sum(shares[: number + 1]) / sum(shares) * whole for number in range(count)]
    found, so_far, bytes_so_far = [], [], 0
    for path, size in paths:
        if len(found) < count - 1 and bytes_so_far >= ends[len(found)]:
            found.append(list(so_far))
        so_far.append(path)
        bytes_so_far += size
    return [*found, so_far]


def layers_round(bench, names, link, number):
    """For each number of saves, and for a save after 5 % of the paths changed, a job without a trace and one with it."""
    labels = {"link": "link" if link else "local", "candidate": "stream", "round": number}
    candidate, base, changed = bench.candidates["stream"], bench.states["base"], bench.states["changed"]
    ordered = sized(bench.store, base["paths"], bench.env)
    for saves in SAVES:
        service = candidate.open(bench.folder("service of layers") / "service", link)
        job = bench.job(f"{saves} saves", service, "bench-1")
        steps = []
        for paths in parts(ordered, saves):
            steps += [bench.change(job, "base") | {"change": paths}, candidate.save(job, "save", paths) | {"aside": True}]
        bench.run(job, steps, labels)
        both(bench, service, f"reads 20 %, {saves} saves", base["paths"], labels)
        close(bench, {"stream": service}, {"stream": labels})
        bench.clear()
    service = candidate.open(bench.folder("service of layers") / "service", link)
    machine.warm(bench.base)
    fill(bench, "stream", service, "bench-1", labels | {"aside": True})
    job = bench.job("changed", service, "bench-1")
    # It is mounted, so that the save can take over blocks.
    restore = bench.candidates["mount"].restore(job, "restore", base["paths"])
    save = candidate.save(job, "save", changed["paths"])
    bench.run(job, [restore | {"aside": True}, bench.change(job, "changed"), save | {"aside": True}, candidate.end(job)], labels)
    both(bench, service, "reads 20 %, 5 % changed, of recipes", changed["paths"], labels)
    close(bench, {"stream": service}, {"stream": labels})


def both(bench, service, name, paths, labels):
    """The same job twice, the second time with the trace of the first one."""
    shape = Shape(name, SHARE)
    for candidate in ("stream", "stream with trace"):
        run(replace(bench, states=bench.states | {"base": {"paths": paths}}), "stream", service, shape, labels | {"candidate": candidate})
