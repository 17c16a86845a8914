"""The fake cache service as a process, one for each candidate, so that none finds what another has stored."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

# A host for which GitHub's client downloads as it does on GitHub; a preloaded script makes it this machine.
AZURE = "fake.blob.core.windows.net"


class Service:
    """A service that runs until it is closed; what it holds goes with it."""

    def __init__(self, program, folder, link, azure):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        command = [program, "--dir", self.folder] + ["--link"] * link + ["--blob-host", AZURE] * azure
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.env = {}
        while "GITHUB_TOKEN" not in self.env:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit("compare: the fake cache service did not start.")
            name, value = line.removeprefix("export ").strip().split("=", 1)
            self.env[name] = value
        self.meter = {"url": self.env["ACTIONS_RESULTS_URL"] + "_fake/stats"}

    def close(self):
        """Ends it. Returns the seconds of processor time it took and its peak memory."""
        self.process.send_signal(signal.SIGINT)
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        shutil.rmtree(self.folder, ignore_errors=True)
        return {"cpu-seconds": usage.ru_utime + usage.ru_stime, "peak-bytes": usage.ru_maxrss * 1024}


class BinaryCache:
    """A folder that `nix copy` fills, in the place of a service. With a link it is reached through a server that is as slow."""

    def __init__(self, program, folder, link):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.env = {}
        self.meter = {"folder": str(self.folder)}
        self.process, self.url = None, f"file://{self.folder}"
        if link:
            command = [program, "--dir", self.folder, "--link"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.url = self.process.stdout.readline().strip()
            if not self.url:
                raise SystemExit("compare: the binary cache did not start.")

    def close(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return {}
