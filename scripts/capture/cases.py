"""The failures that are provoked, each a name and a run of Nix on a fresh store."""

import os
import shutil
import subprocess

from nix import CACHE

# The name of a case and the attribute of `flake.nix` that provokes it.
ATTRIBUTES = {
    "builder": ["fails"], "consequence": ["dependent"], "consequences": ["dependents"], "several": ["fails", "failsToo"],
    "no-output": ["noOutput"], "killed": ["killed"], "hungry": ["hungry"], "references": ["refers"],
    "disallowed": ["forbidden"], "requisites": ["required"], "cycle": ["cyclic"], "platform": ["elsewhere"],
    "features": ["features"], "kvm": ["virtual"], "no-builder": ["noBuilder"], "hash": ["hash"], "hash-hex": ["hashHex"],
    "hash-base32": ["hash32"], "hash-empty": ["hashEmpty"], "tarball": ["tarball"], "tarball-404": ["tarball404"], "url-hash": ["url"],
    "url-tls": ["urlTls"], "git-rev": ["git"], "throws": ["throws"], "syntax": ["syntax"], "undefined": ["undefined"],
    "missing": ["missing"], "near": ["near"], "infinite": ["infinite"], "coerced": ["coerced"], "asserted": ["asserted"],
    "absent": ["absent"], "argument": ["argument"], "required": ["required'"], "typed": ["typed"], "function": ["inFunction"],
    "aborted": ["aborted"], "impure": ["impure"], "unlocked": ["unlocked"], "deep": ["deep"], "json": ["json"],
    "not-function": ["notFunction"], "no-attribute": ["no-such-package"], "near-attribute": ["fail"], "two-targets": ["one", "throws"],
    **{f"fetch-{fault}": [f"f{fault.capitalize()}"] for fault in ["404", "403", "408", "410", "429", "503", "cut", "refused", "unknown", "tls"]},
}
# How the binary cache fails: the place of its address that says so.
FAULTS = [
    "nar-500", "nar-502", "nar-503", "nar-403", "nar-404", "nar-408", "nar-truncated", "nar-short", "nar-corrupt", "nar-other", "narinfo-503",
    "narinfo-403", "narinfo-garbage", "narinfo-truncated", "info-503", "info-404",
]
# Inputs of a flake, by name.
INPUTS = {
    "git-host": "git+https://no-such-host.example/a.git", "git-port": "git+https://127.0.0.1:1/a.git", "git-http": "git+http://127.0.0.1:1/a.git",
    "git-ssh-host": "git+ssh://git@no-such-host.example/a.git", "git-ssh-port": "git+ssh://git@127.0.0.1:1/a.git",
    "git-ssh-key": "git+ssh://git@127.0.0.1:8922/a.git", "git-cut": "git+@http@/git-cut/repository", "git-short": "git+@http@/git-short/repository",
    "git-503": "git+@http@/git-503/repository", "git-401": "git+@http@/git-401/repository", "git-404": "git+@http@/git/no-such-repository",
    "git-tls": "git+https://tls.example/a.git", "git-ref": "git+@http@/git/repository?ref=no-such-branch",
    "git-file": "git+file:///no/such/repository", "github-limit": "github:a/limited", "github-token": "github:a/token", "github-404": "github:a/private",
    "gitlab-host": "gitlab:a/b", "tarball-503": "@http@/status/503/a.tar.gz", "tarball-404": "@http@/status/404/a.tar.gz",
    "tarball-408": "@http@/status/408/a.tar.gz", "tarball-429": "@http@/status/429/a.tar.gz", "tarball-no": "@http@/file/a.tar.gz", "path": "path:/no/such/folder", "registry": "no-such-flake",
}


def flake_with(url):
    return "{\n  inputs.a.url = \"" + url + "\";\n  outputs = { self, a }: { packages.@system@.default = a.packages.default; };\n}\n"


def inject(machine, what, *paths):
    """A prefix that makes system calls fail, as a broken machine would."""
    call, error = what.split(":", 1)
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", *[word for path in paths for word in ("-P", path)], "-e", f"inject={call}:{error}"]


def attributes(machine):
    for name, targets in ATTRIBUTES.items():
        yield name, lambda targets=targets: machine.build(*targets, options=["--option", "download-attempts", "1"])
    yield "both", lambda: machine.build("fails", "throws")
    yield "flag", lambda: machine.build("one", options=["--no-such-flag"])
    yield "interrupted", lambda: machine.build("slow", stop_after=4)
    yield "signal", lambda: machine.build("slow", kill=b"busybox")
    yield "timeout", lambda: machine.build("slow", options=["--timeout", "1"])
    yield "silence", lambda: machine.build("slow", options=["--max-silent-time", "1"])
    yield "wanted", lambda: machine.run(["nix-store", "--store", machine.last, "--realise", *drvs(machine, "fails", "failsToo"), "--log-format", "internal-json", "--keep-going"])
    yield "rebuild", lambda: rebuild(machine, "random")
    yield "no-flake", lambda: machine.build("one", flake=f"path:{machine.path('home')}")
    yield "no-folder", lambda: machine.build("one", flake=f"path:{machine.path('nowhere')}")
    yield "no-registry", lambda: machine.build("nixpkgs#hello")
    yield "untracked", lambda: untracked(machine)


def drvs(machine, *names):
    # Into the store of the run before: nix-store has to find them there.
    return [machine.quietly("nix", "eval", "--store", machine.last, "--raw", f"path:{machine.flake}#{name}.drvPath") for name in names]


def rebuild(machine, name):
    store = machine.store()
    machine.quietly("nix", "build", "--store", store, "--no-link", f"path:{machine.flake}#{name}")
    return machine.build(name, store=store, options=["--rebuild"])


def untracked(machine):
    """A file that is there and that Git does not know."""
    folder = machine.write(machine.path("tracked"), "{\n  outputs = { self }: { packages.@system@.default = import ./package.nix; };\n}\n")
    for words in [["init", "--quiet"], ["add", "flake.nix"]]:
        machine.quietly("git", "-C", folder, *words)
    with open(os.path.join(folder, "package.nix"), "w") as file:
        file.write("{ }\n")
    return machine.build("default", flake=f"git+file://{folder}")


def fill(machine):
    """The binary cache: `two` and what it needs, without signatures."""
    store, cache = machine.store(), machine.path("cache")
    path = machine.quietly("nix", "build", "--store", store, "--no-link", "--json", f"path:{machine.flake}#two", f"path:{machine.flake}#one")
    machine.quietly("nix", "copy", "--store", store, "--to", f"file://{cache}", f"path:{machine.flake}#two")
    machine.one = machine.quietly("nix", "eval", "--store", store, "--raw", f"path:{machine.flake}#one.outPath")
    # Another archive under the name of the first: `two` is the smaller one.
    nars = os.path.join(cache, "nar")
    smallest = min(os.listdir(nars), key=lambda name: os.path.getsize(os.path.join(nars, name)))
    shutil.copy(os.path.join(nars, smallest), os.path.join(nars, "other"))


def caches(machine):
    for fault in FAULTS:
        url = f"{machine.http}/{fault}"
        yield f"cache-{fault}", lambda url=url: machine.build("one", options=[*CACHE, url])
        yield f"path-{fault}", lambda url=url: machine.build(machine.one, options=[*CACHE, url])
    # What the cache has cannot be built here: nothing else is left.
    yield "only-nar-503", lambda: machine.build("one", options=[*CACHE, f"{machine.http}/nar-503", "--max-jobs", "0"])
    for name, url in [("refused", "http://127.0.0.1:1"), ("host", "https://no-such-host.example"), ("tls", "https://tls.example")]:
        yield f"cache-{name}", lambda url=url: machine.build("one", options=[*CACHE, url])
        yield f"path-{name}", lambda url=url: machine.build(machine.one, options=[*CACHE, url])
    signed = ["--option", "require-sigs", "true"]
    yield "cache-unsigned", lambda: machine.build("one", options=[*CACHE, f"{machine.http}/all", *signed])
    yield "path-unsigned", lambda: machine.build(machine.one, options=[*CACHE, f"{machine.http}/all", *signed])
    yield "no-substituter", lambda: machine.build(machine.one)


def inputs(machine):
    for name, url in INPUTS.items():
        folder = machine.path(f"input-{name}")
        token = {"NIX_CONFIG": machine.environment["NIX_CONFIG"] + "access-tokens = github.com=wrong\n"} if name == "github-token" else {}
        certificate = {} if name.endswith("tls") else {"NIX_SSL_CERT_FILE": machine.certificate}
        ssh = {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"} if "key" in name else {}
        environment = {**token, **certificate, **ssh}
        yield f"input-{name}", lambda folder=folder, url=url, environment=environment: machine.build(
            "default", flake="path:" + machine.write(folder, flake_with(url)), environment=environment, options=["--option", "download-attempts", "1"])
    yield "input-ssh-host-key", lambda: machine.build("default", flake="path:" + machine.write(machine.path("input-known"), flake_with("git+ssh://git@127.0.0.1:8922/a.git")), environment={"GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o UserKnownHostsFile=/dev/null"})
    yield "input-hash", lambda: locked(machine)


def locked(machine):
    """An input that is not what the lock file says."""
    dependency = machine.write(machine.path("dependency"), "{ outputs = { self }: { }; }\n")
    folder = machine.write(machine.path("input-hash"), flake_with(f"path:{dependency}"))
    machine.quietly("nix", "flake", "lock", "--store", machine.store(), f"path:{folder}")
    machine.write(dependency, "{ outputs = { self }: { changed = true; }; }\n")
    return machine.build("default", flake=f"path:{folder}")


def machines(machine):
    """A disk, a store and rights that fail."""
    yield "disk", lambda: small_disk(machine, "24m", "large")
    yield "disk-tiny", lambda: small_disk(machine, "1m", "one")
    store = machine.store()
    machine.quietly("nix", "build", "--store", store, "--no-link", f"path:{machine.flake}#one")
    real, db = store + machine.one, store + "/nix/var/nix/db"
    again = lambda name, prefix: machine.build("two", store=copied(machine, store), prefix=prefix)
    def broken(call, *paths):
        fresh = copied(machine, store)
        return machine.build("two", store=fresh, prefix=inject(machine, call, *[fresh + path for path in paths]))
    yield "db-full", lambda: broken("pwrite64:error=ENOSPC", "/nix/var/nix/db/db.sqlite-wal", "/nix/var/nix/db/db.sqlite")
    yield "db-io", lambda: broken("pread64:error=EIO", "/nix/var/nix/db/db.sqlite")
    yield "quota", lambda: machine.build("one", prefix=inject(machine, "mkdir,mkdirat:error=EDQUOT:when=12+"))
    yield "fork", lambda: machine.build("one", prefix=inject(machine, "clone,vfork:error=ENOMEM"))
    yield "memory", lambda: machine.run(["sh", "-c", "ulimit -v 400000; exec \"$@\"", "sh", "nix", "build", "--no-link", "--log-format", "internal-json", "--store", machine.store(), f"path:{machine.flake}#vast"])
    yield "stale", lambda: broken("openat,lstat,newfstatat:error=ESTALE", machine.one)
    yield "io", lambda: broken("openat,lstat,newfstatat,statx:error=EIO", machine.one)
    yield "gone", lambda: gone(machine, store)
    yield "drv-gone", lambda: gone(machine, store, ".drv")
    yield "malformed", lambda: malformed(machine, store)
    yield "read-only", lambda: read_only(machine, store)
    yield "owner", lambda: machine.build("two", store=copied(machine, store), prefix=["setpriv", "--reuid", "65534", "--clear-groups"], environment={"HOME": "/tmp", "XDG_CACHE_HOME": machine.open("home-of-nobody")}, flake="path:" + machine.open("flake"))
    yield "chmod", lambda: machine.build("one", prefix=inject(machine, "chmod,fchmodat,fchmod:error=EPERM:when=4+"))
    yield "no-daemon", lambda: machine.run(["nix", "build", "--no-link", "--log-format", "internal-json", "--store", "daemon", f"path:{machine.flake}#one"], environment={"NIX_DAEMON_SOCKET_PATH": machine.path("no-socket")})


def copied(machine, store):
    fresh = machine.store()
    subprocess.run(["cp", "-a", store, fresh], check=True)
    return fresh


def gone(machine, store, end=""):
    fresh = copied(machine, store)
    path = machine.one
    if end:
        path = machine.quietly("nix", "eval", "--store", store, "--raw", f"path:{machine.flake}#one.drvPath")
    subprocess.run(["rm", "-rf", fresh + path], check=True)
    return machine.build("two", store=fresh)


def malformed(machine, store):
    fresh = copied(machine, store)
    file = fresh + "/nix/var/nix/db/db.sqlite"
    with open(file, "r+b") as database:
        database.seek(4096)
        database.write(b"\x5a" * (os.path.getsize(file) - 4096))
    return machine.build("two", store=fresh)


def mounted(folder, words, run):
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["mount", *words, folder], check=True)
    try:
        return run()
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def small_disk(machine, size, target):
    folder = machine.store()
    return mounted(folder, ["-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs"], lambda: machine.build(target, store=folder))


def read_only(machine, store):
    fresh = copied(machine, store)
    def run():
        subprocess.run(["mount", "-o", "remount,ro,bind", fresh], check=True)
        return machine.build("two", store=fresh)
    return mounted(fresh, ["--bind", fresh], run)
