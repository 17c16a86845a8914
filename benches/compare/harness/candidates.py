"""What is compared: for each candidate its service, and the commands with which it restores and saves."""

from dataclasses import dataclass
from pathlib import Path

from .service import BinaryCache, Service


@dataclass(frozen=True)
class Place:
    """Where things are on this machine."""

    nix_cache: str
    dev_server: str
    binary_cache: str
    # The folder with GitHub's client and the scripts that call it.
    node: Path
    # The folder with a `tar` that notes when it was called.
    shims: Path
    # The environment that every command gets.
    env: dict


@dataclass(frozen=True)
class Job:
    """One job of one candidate."""

    # Its own folder; the store's root is below it, or the store that is to be saved.
    folder: Path
    store: str
    # What the service gives a job as environment, and the folder of a binary cache.
    service: object
    # The key, and the prefix with which a restore finds older ones.
    key: str
    prefix: str = "bench-"
    # Jobs of different lanes read different things.
    lane: str = "default"

    def step(self, name, command, env, **more):
        """A step of this job, as `job.py` reads it."""
        log = str(self.folder / name.replace(" ", "-"))
        return {"name": name, "command": [str(word) for word in command], "folder": self.store, "env": env, "log": log} | more


class Layers:
    """nix-cache: layers, which are mounted, unpacked or streamed."""

    def __init__(self, place, mode):
        self.place, self.mode = place, mode

    def open(self, folder, link):
        return Service(self.place.dev_server, folder, link, azure=False)

    def _command(self, job, verb, *more):
        keys = ["--primary-key", job.key, "--restore-prefixes-first-match", job.prefix, "--lane", job.lane]
        return [self.place.nix_cache, verb, "--remote", "github", "--store-root", job.store, *keys, *more, "--quiet", "--format", "json"]

    def _env(self, job):
        return self.place.env | job.service.env | {"TMPDIR": str(job.folder)}

    def restore(self, job, name, paths):
        command = self._command(job, "restore", "--restore-mode", self.mode)
        return job.step(name, command, self._env(job), ready=paths, phases=True, expect=f'"mode": "{self.mode}"')

    def end(self, job):
        """Nothing of a job may go on after it: the server of a stream would."""
        command = [self.place.nix_cache, "detach", "--store-root", job.store, "--quiet"]
        return job.step("end", command, self._env(job), aside=True)

    def keep_trace(self, job):
        """The save of a job that only read: if it streamed, the order in which it read is kept."""
        return job.step("keep the trace", self._command(job, "save"), self._env(job), aside=True)

    def save(self, job, name, paths):
        return job.step(name, self._command(job, "save"), self._env(job), phases=True, expect='"generation"')

    def save_again(self, job, name, paths):
        """The save of a job that found everything and made nothing."""
        return job.step(name, self._command(job, "save"), self._env(job), expect='"nothing-new"')


class Tar:
    """The pipeline of cache-nix-action: tar and zstd over /nix, through GitHub's own client."""

    def __init__(self, place):
        self.place = place

    def open(self, folder, link):
        return Service(self.place.dev_server, folder, link, azure=True)

    def _command(self, job, verb, *more):
        node = self.place.node
        return ["node", "--require", node / "azure-host.cjs", node / "cache.mjs", verb, job.key, "nix", *more]

    def _env(self, job):
        env = self.place.env | job.service.env
        env["PATH"] = f"{self.place.shims}:{env['PATH']}"
        return env | {"GITHUB_WORKSPACE": job.store, "RUNNER_TEMP": str(job.folder), "TAR_TIMES": str(job.folder / "tar-times")}

    def restore(self, job, name, paths):
        command = self._command(job, "restore", job.prefix)
        times = str(job.folder / "tar-times")
        return job.step(name, command, self._env(job), ready=paths, times=times, expect=rf'\{{"value":"{job.prefix}')

    def save(self, job, name, paths):
        return job.step(name, self._command(job, "save"), self._env(job), expect=r'\{"value":\d+\}')

    def save_again(self, job, name, paths):
        """An exact hit is never saved again; that it is one is looked up once more."""
        return job.step(name, self._command(job, "lookup"), self._env(job), expect=rf'\{{"value":"{job.key}"\}}')


class NixCopy:
    """`nix copy` to a binary cache, and back: in a folder, or through a server as slow as the link."""

    # Of a job that reads a part, it gets that part and what it refers to; the others always restore all.
    gets_parts = True

    def __init__(self, place):
        self.place = place

    def open(self, folder, link):
        return BinaryCache(self.place.binary_cache, folder, link)

    def _copy(self, job, name, ends, paths, **more):
        return self._nix(job, name, ["copy", "--no-check-sigs", *ends, *paths], **more)

    def _nix(self, job, name, arguments, **more):
        return job.step(name, ["nix", *arguments], self.place.env | {"XDG_CACHE_HOME": str(job.folder / "cache")}, **more)

    def restore(self, job, name, paths):
        ends = ["--from", job.service.url, "--to", job.store]
        return self._copy(job, name, ends, paths, ready=paths)

    def save(self, job, name, paths, url=None):
        ends = ["--from", job.store, "--to", f"{url or job.service.url}?compression=zstd"]
        return self._copy(job, name, ends, paths)

    save_again = save

    def put(self, job, name, paths):
        """A save that is not measured: into the folder itself, since over the link it takes ten minutes."""
        return self.save(job, name, paths, f"file://{job.service.folder}")


class Substituter(NixCopy):
    """The same binary cache as a substituter: Nix fetches what it is asked for, several paths at once."""

    def restore(self, job, name, paths):
        ends = ["--store", job.store, "--substituters", job.service.url, "--option", "require-sigs", "false"]
        return self._nix(job, name, ["build", "--no-link", *ends, *paths], ready=paths)


def candidates(place):
    """All of them by name. The first one is what the others are compared with."""
    return {
        "tar": Tar(place),
        "mount": Layers(place, "mount"),
        "unpack": Layers(place, "unpack"),
        "stream": Layers(place, "stream"),
        "nix copy": NixCopy(place),
        "substituter": Substituter(place),
    }
