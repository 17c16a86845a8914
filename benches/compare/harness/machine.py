"""The machine under the measurements: what must be evened out so that all candidates meet the same one."""

import mmap
import os
import platform
import subprocess
import time
from pathlib import Path

# For so long ext4 steps over inodes that were just deleted when it makes new ones.
RECENTLY_DELETED = 65


def touch_memory():
    """Uses most of the free memory once: a virtual machine may get it only now, and pages are slow the first time."""
    available = memory()["MemAvailable"] * 8 // 10
    with mmap.mmap(-1, available) as area:
        for place in range(0, available, mmap.PAGESIZE):
            area[place] = 1


def memory():
    """The fields of /proc/meminfo, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def warm(store):
    """Reads every file of a store, so that it is in memory."""
    for folder, _, files in os.walk(Path(store, "nix")):
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                with open(file, "rb", buffering=0) as opened:
                    while opened.read(1 << 20):
                        pass


def remove(folders, wait):
    """Removes what jobs left, and waits until the file system has forgotten it."""
    subprocess.run(["rm", "--recursive", "--force", *folders], check=True)
    if wait:
        os.sync()
        time.sleep(RECENTLY_DELETED)


def describe():
    """The machine in one line."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    nix = subprocess.check_output(["nix", "--version"], text=True).strip()
    system = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory-bytes": memory()["MemTotal"],
        "system": f"{system.get('PRETTY_NAME', '?').strip(chr(34))}, Linux {platform.release()}",
        "nix": nix,
        "date": time.strftime("%Y-%m-%d"),
    }
