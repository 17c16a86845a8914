"""Jobs of a shape: they restore, read a part of the store, and compute. The clock runs from the start of the restore to their end."""

import hashlib
from dataclasses import dataclass, replace

from . import machine
from .rounds import close, fill, opened, rotated

READERS = 4


@dataclass(frozen=True)
class Shape:
    """What a job does."""

    name: str
    # The part of the paths whose files it reads, and the seconds that it computes.
    share: float
    compute: float = 0


SHAPES = [
    Shape("reads 5 %", 0.05),
    Shape("reads 20 %", 0.2),
    Shape("reads everything", 1),
    Shape("reads 5 %, computes 60 s", 0.05, 60),
]


def chosen(paths, share):
    """A part of the paths, in an order that has nothing to do with their names."""
    mixed = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).hexdigest())
    return mixed[: max(1, round(len(mixed) * share))]


def jobs_round(bench, names, link, number):
    """A job of each shape. Streamed, it runs twice: a second time with the trace of the first one."""
    services = opened(bench, names, link)
    labels = {name: {"link": "link" if link else "local", "candidate": name, "round": number} for name in names}
    for name in rotated(names, number):
        machine.warm(bench.base)
        fill(bench, name, services[name], "bench-1", labels[name] | {"aside": True})
    for shape in SHAPES:
        for name in rotated(names, number):
            run(bench, name, services[name], shape, labels[name])
            if name == "stream":
                run(bench, name, services[name], shape, labels[name] | {"candidate": "stream with trace"})
    close(bench, services, labels)


def run(bench, name, service, shape, labels):
    """One job. What it read is kept for the next one of its lane."""
    candidate = bench.candidates[name]
    job = replace(bench.job(f"{name} {shape.name}", service, "bench-1"), lane="".join(letter if letter.isalnum() else "-" for letter in shape.name))
    paths = bench.states["base"]["paths"]
    read = chosen(paths, shape.share)
    restore = candidate.restore(job, f"job: {shape.name}", read if getattr(candidate, "gets_parts", False) else paths)
    restore.pop("ready", None)
    # With a store that only tries the script, nothing is computed for long.
    compute = shape.compute if bench.wait else shape.compute / 20
    reads = {"paths": read, "readers": READERS, "compute": compute}
    # What a job loses to a cache is what it takes longer than in a store that is already there.
    steps = [restore | {"reads": reads | {"again": name == "tar" and compute > 0}}]
    if name == "stream" and labels["candidate"] == "stream":
        steps.append(candidate.keep_trace(job))
    if hasattr(candidate, "end"):
        steps.append(candidate.end(job))
    bench.run(job, steps, labels)
