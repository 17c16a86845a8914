"""What one Nix prints when each failure is provoked: runs of `nix build` on `flake.nix`, in stores of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = """experimental-features = nix-command flakes
substituters =
build-users-group =
sandbox-paths =
max-jobs = 4
warn-dirty = false
connect-timeout = 5
flake-registry = @registry@
"""
CACHE = ["--option", "require-sigs", "false", "--option", "download-attempts", "1", "--option", "substituters"]


def command_line(number):
    try:
        with open(f"/proc/{number}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def descends(number, from_process):
    while number not in ("0", "1"):
        try:
            with open(f"/proc/{number}/status") as file:
                number = next(line.split()[1] for line in file if line.startswith("PPid:"))
        except OSError:
            return False
        if number == str(from_process):
            return True
    return False


class Machine:
    """A folder with a flake, a binary cache and stores, for one Nix."""

    def __init__(self, folder, programs, port):
        self.folder, self.port, self.http = folder, port, f"http://127.0.0.1:{port}"
        self.flake = self.path("flake")
        self.environment = {
            "PATH": os.pathsep.join(filter(None, [programs, os.environ["PATH"]])), "HOME": self.path("home"),
            "NIX_CONF_DIR": self.path("home/conf"), "NIX_USER_CONF_FILES": "", "NIX_CONFIG": CONFIG.replace("@registry@", self.path("registry.json")), "LANG": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
        }
        self.programs = programs
        self.stores, self.last = 0, folder
        os.makedirs(self.path("home/conf"))
        os.makedirs(self.flake)
        with open(self.path("registry.json"), "w") as file:
            file.write('{"flakes": [], "version": 2}\n')
        self.write(self.flake)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, folder, text=None):
        """A flake: the one with all attributes, or one with this text."""
        os.makedirs(folder, exist_ok=True)
        if text is None:
            os.makedirs(os.path.join(folder, "tools"), exist_ok=True)
            shutil.copy("/bin/busybox", os.path.join(folder, "tools", "busybox"))
            with open(os.path.join(HERE, "flake.nix")) as file:
                text = file.read()
            for name, content in [("broken.nix", "{\n  a = 1 +;\n}\n"), ("undefined.nix", "{ }: undefinedVar\n")]:
                with open(os.path.join(folder, name), "w") as file:
                    file.write(content)
        system = os.uname().machine + "-linux"
        with open(os.path.join(folder, "flake.nix"), "w") as file:
            file.write(text.replace("@system@", system).replace("@http@", self.http))
        return folder

    def store(self):
        self.stores += 1
        return self.path(f"store{self.stores}")

    def run(self, words, environment=None, stop_after=None, kill=None, prefix=(), folder=None):
        """Runs a program to its end. Returns what it wrote as its log."""
        words = [*prefix, *words]
        process = subprocess.Popen(
            words, env={**self.environment, **(environment or {})}, cwd=folder or self.flake, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        if stop_after:
            time.sleep(stop_after)
            process.send_signal(signal.SIGINT)
        if kill:
            time.sleep(4)
            for number in filter(str.isdigit, os.listdir("/proc")):
                # The builder of this run, and no other.
                if kill in command_line(number) and descends(number, process.pid):
                    os.kill(int(number), signal.SIGKILL)
        _, log = process.communicate(timeout=300)
        return log.decode(errors="replace")

    def build(self, *targets, store=None, options=(), flake=None, **how):
        flake = flake or f"path:{self.flake}"
        targets = [target if target.startswith(("/", "path:", "git", "nixpkgs")) else f"{flake}#{target}" for target in targets]
        store = store or self.store()
        words = ["nix", "build", *targets, "--no-link", "--json", "--keep-going", "--log-format", "internal-json", "--store", store]
        log = self.run([*words, *options], **how)
        self.last = store
        return log

    def quietly(self, *words):
        done = subprocess.run(words, env=self.environment, cwd=self.flake, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stderr.decode()}")
        return done.stdout.decode().strip()


def wanted(log):
    """The lines of a log that say something: errors, warnings, builds with what they print, and the counts of builds."""
    ids, kept = set(), []
    for line in log.splitlines():
        if not line.startswith("@nix "):
            kept.append(line)
            continue
        event = json.loads(line[5:])
        action, kind = event["action"], event.get("type")
        if action == "msg" and event["level"] <= 1:
            kept.append(line)
        elif action == "start" and kind in (101, 104, 105, 108):
            ids.add(event["id"])
            kept.append(line)
        elif action == "stop" and event["id"] in ids or action == "result" and event["id"] in ids and kind in (101, 104):
            kept.append(line)
        elif action == "result" and kind == 105 and event["id"] in ids and any(event["fields"]):
            kept.append(line)
    return kept


def normal(lines, machine):
    """Without what differs from machine to machine: the folder, the port and Nix's numbers for work."""
    numbers = {}
    def number(match):
        return f'{match[1]}{numbers.setdefault(match[2], len(numbers) + 1)}'
    for line in lines:
        line = re.sub(rf"{re.escape(machine.folder)}/store\d+", "", line)
        line = line.replace(machine.folder, "/w").replace(f"127.0.0.1:{machine.port}", "127.0.0.1:8901")
        if line.startswith("@nix "):
            line = re.sub(r'("(?:id|parent)":)(\d+)', lambda m: m[0] if m[2] == "0" else number(m), line)
        yield line


def downloads(log, store):
    """The derivations in a log whose outputs are known by hash."""
    found = []
    for path in sorted(set(re.findall(r"/nix/store/[0-9a-z]{32}-[^\"'\\ !^]*?\.drv", log))):
        try:
            with open(store + path) as file:
                if re.match(r'Derive\(\[\("[^"]*","[^"]*","(r:)?sha256","[^"]+"\)', file.read()):
                    found.append(path)
        except OSError:
            pass
    return found
