"""The cases: which jobs each candidate runs, in which order."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from . import machine
from .candidates import Job

HERE = Path(__file__).parent.parent


@dataclass
class Bench:
    """Everything that the rounds share."""

    candidates: dict
    env: dict
    # The folder for jobs and services.
    work: Path
    # The root with every state, and that with the base state alone.
    store: str
    base: str
    # For each state its paths and its environment.
    states: dict
    # Whether to wait until the disk has nothing left to do, before each step and after folders were removed.
    wait: bool
    figures: list = field(default_factory=list)
    folders: list = field(default_factory=list)

    def folder(self, name):
        """A new folder, which `clear` removes."""
        folder = self.work / f"{len(self.figures)}-{len(self.folders)}-{name.replace(' ', '-')}"
        folder.mkdir(parents=True)
        self.folders.append(folder)
        return folder

    def clear(self):
        """Removes the folders of all jobs so far."""
        machine.remove(self.folders, self.wait)
        self.folders.clear()

    def job(self, name, service, key, store=None):
        """A job with an empty store, or over the `store` given."""
        folder = self.folder(name)
        (folder / "root").mkdir()
        return Job(folder, store or str(folder / "root"), service, key)

    def change(self, job, state):
        """The step that does what a build would: the paths of `state` come into the store."""
        wanted = self.states[state]
        return {"change": wanted["paths"], "from": self.store, "environment": wanted["environment"], "env": self.env}

    def run(self, job, steps, labels):
        """Runs the steps of a job in a mount namespace of its own and keeps their figures."""
        file = job.folder / "job.json"
        file.write_text(json.dumps({"store": job.store, "meter": job.service.meter, "settle": self.wait, "steps": steps}))
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "harness.job", str(file)]
        done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"compare: the job in {job.folder} failed; what it said stands there.")
        for name, figure in json.loads(done.stdout).items():
            self.figures.append(labels | {"case": name} | figure)
            print(
                f"{labels['link']:5} {labels['candidate']:8} {name:22} {figure['seconds']:7.2f} s  {figure['up'] / 1e6:8.1f} MB up "
                f"{figure['down'] / 1e6:8.1f} MB down {figure['peak-bytes'] / 1e6:6.0f} MB memory",
                flush=True,
            )


def rotated(items, by):
    """The items in another order for each round, so that no candidate always follows the same one."""
    items = list(items)
    return items[by % len(items) :] + items[: by % len(items)]


def unpack_first(names):
    """The names with `unpack` before `mount`, which goes on to save to the service that they share."""
    if "mount" in names and "unpack" in names and names.index("mount") < names.index("unpack"):
        names.remove("unpack")
        names.insert(names.index("mount"), "unpack")
    return names


def opened(bench, names, link):
    """A service for each candidate. What is mounted and what is unpacked are restored from the same one."""
    services = {}
    for name in names:
        if name == "unpack" and "mount" in services:
            services[name] = services["mount"]
        else:
            services[name] = bench.candidates[name].open(bench.folder(f"service of {name}") / "service", link)
    return services


def fill(bench, name, service, key, labels):
    """Saves the base state cold, and gives the steps' figures the name of the case."""
    job = bench.job(f"{name} cold", service, key, store=bench.base)
    candidate = bench.candidates[name]
    save = getattr(candidate, "put", candidate.save) if labels.get("aside") else candidate.save
    bench.run(job, [save(job, "cold save", bench.states["base"]["paths"])], labels)
    machine.remove([Path(bench.base, "nix/var/nix-cache")], wait=False)


def main_round(bench, names, link, number):
    """A cold save; a restore of it; a save with nothing new; a save after 5 % of the paths changed."""
    services = opened(bench, names, link)
    labels = {name: {"link": "link" if link else "local", "candidate": name, "round": number} for name in names}
    saving = [name for name in names if not (name == "unpack" and "mount" in names)]
    for name in rotated(saving, number):
        machine.warm(bench.base)
        fill(bench, name, services[name], "bench-1", labels[name])
    for name in unpack_first(rotated(names, number)):
        candidate = bench.candidates[name]
        job = bench.job(name, services[name], "bench-1")
        later = Job(job.folder, job.store, services[name], "bench-1-changed" if name == "tar" else "bench-1")
        base, changed = bench.states["base"]["paths"], bench.states["changed"]["paths"]
        steps = [candidate.restore(job, "restore", base)]
        if name in saving:
            steps.append(candidate.save_again(job, "nothing changed, save", base))
            steps.append(bench.change(job, "changed"))
            steps.append(candidate.save(later, "5 % changed, save", changed))
        bench.run(job, steps, labels[name])
    close(bench, services, labels)


def bump_round(bench, names, link, number):
    """A job under a new key that starts from the store of the old one, after a lock bump."""
    services = opened(bench, names, link)
    labels = {name: {"link": "link" if link else "local", "candidate": name, "round": number} for name in names}
    for name in rotated(names, number):
        candidate, service = bench.candidates[name], services[name]
        fill(bench, name, service, "bench-1", labels[name] | {"aside": True})
        job = bench.job(f"{name} bump", service, "bench-2")
        steps = [
            candidate.restore(job, "lock bump, restore", bench.states["base"]["paths"]),
            bench.change(job, "bump"),
            candidate.save(job, "lock bump, save", bench.states["bump"]["paths"]),
        ]
        bench.run(job, steps, labels[name])
    close(bench, services, labels)


def commits_round(bench, names, link, number):
    """Ten commits in a row, each a job that restores, changes a little and saves."""
    for name in names:
        labels = {"link": "link" if link else "local", "candidate": name, "round": number}
        services = opened(bench, [name], link)
        candidate, service = bench.candidates[name], services[name]
        fill(bench, name, service, "bench-1", labels | {"aside": True})
        before = "base"
        for state in [state for state in bench.states if state.startswith("commit-")]:
            key = f"bench-1-{state}" if name == "tar" else "bench-1"
            job = bench.job(f"{name} {state}", service, key)
            steps = [
                candidate.restore(job, "ten commits, restore", bench.states[before]["paths"]),
                bench.change(job, state),
                candidate.save(job, "ten commits, save", bench.states[state]["paths"]),
            ]
            bench.run(job, steps, labels | {"commit": state})
            machine.remove([job.folder], wait=False)
            before = state
        close(bench, services, {name: labels})
        bench.clear()


def close(bench, services, labels):
    """Ends the services, and notes what they themselves took."""
    for service in set(services.values()):
        names = [name for name in services if services[name] is service]
        took = service.close()
        bench.figures.append(labels[names[0]] | {"case": "service", "aside": True} | took)
