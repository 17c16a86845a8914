#!/usr/bin/env python3
"""Provokes every failure that `nix-cache build` knows, and keeps what is said then for the tests of `src/building`.

  scripts/capture-failures.py nix-2.8                       # what /usr/bin/nix says
  scripts/capture-failures.py nix-2.34 --nix target/newer-nix/bin
  scripts/capture-failures.py tools                         # what test programs, compilers and package managers say

Each writes `src/building/testdata/captured/NAME.txt`: for each case a line `#: CASE`, one `#: fixed PATH` for each derivation that is a
download, and the lines. Without `--all`, cases that need a program that is not here keep the lines that they have. Root is needed:
it runs in a network namespace with nothing but a loopback, where names such as api.github.com lead to a server of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "capture"))
KEPT = os.path.join(HERE, "..", "src", "building", "testdata", "captured")
HOSTS = "127.0.0.1 localhost api.github.com tls.example\n"


def alone():
    """Starts this program again in namespaces of its own, once."""
    if os.environ.get("CAPTURE_ALONE"):
        return
    os.environ["CAPTURE_ALONE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def network(folder):
    # Where no address but 127.0.0.1 is, Nix asks no network at all.
    for words in ["link set lo up", "address add 192.0.2.1/32 dev lo"]:
        subprocess.run(["ip", *words.split()], check=True)
    for name, text in [("hosts", HOSTS), ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")]:
        file = os.path.join(folder, name)
        with open(file, "w") as out:
            out.write(text)
        subprocess.run(["mount", "--bind", file, f"/etc/{name}"], check=True)


def certificate(folder):
    """A certificate for the names of HOSTS that nobody trusts unless he is told to."""
    file = os.path.join(folder, "certificate.pem")
    names = "subjectAltName=DNS:api.github.com,DNS:tls.example"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tls.example", "-addext", names]
    subprocess.run([*words, "-keyout", file + ".key", "-out", file + ".crt"], check=True, capture_output=True)
    with open(file, "w") as out:
        for part in (".key", ".crt"):
            with open(file + part) as part:
                out.write(part.read())
    return file


def repository(folder):
    at = os.path.join(folder, "repositories", "repository")
    os.makedirs(at)
    for number in range(300):
        with open(os.path.join(at, f"{number}.txt"), "w") as file:
            file.write(f"{os.urandom(200).hex()}\n")
    with open(os.path.join(at, "flake.nix"), "w") as file:
        file.write("{ outputs = { self }: { }; }\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for words in [["init", "--quiet", "--initial-branch=master"], ["add", "."], ["commit", "--quiet", "--message", "m"]]:
        subprocess.run(["git", *who, "-C", at, *words], check=True)
    return os.path.dirname(at)


def sshd(folder):
    """An SSH server that lets nobody in, where there is one. SSHD names its program."""
    program = os.environ.get("SSHD", "/usr/sbin/sshd")
    if not os.path.exists(program):
        return None
    key = os.path.join(folder, "host_key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    config = os.path.join(folder, "sshd_config")
    with open(config, "w") as file:
        file.write(f"Port 8922\nListenAddress 127.0.0.1\nHostKey {key}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n")
    return subprocess.Popen([program, "-D", "-e", "-f", config], stderr=subprocess.DEVNULL)


def read(file):
    """Cases that were captured before."""
    cases, name = {}, None
    try:
        with open(file) as lines:
            for line in lines:
                if line.startswith("#: ") and not line.startswith("#: fixed "):
                    name = line[3:].strip()
                    cases[name] = []
                elif name:
                    cases[name].append(line.rstrip("\n"))
    except OSError:
        pass
    return cases


def write(file, cases, head):
    with open(file, "w") as out:
        out.write(f"# {head} Written by scripts/capture-failures.py.\n")
        for name, lines in cases.items():
            out.write(f"#: {name}\n" + "".join(line + "\n" for line in lines))


def of_nix(options, folder):
    import cases
    import nix
    import server

    machine = nix.Machine(os.path.join(folder, "w"), options.nix and os.path.abspath(options.nix), 8901)
    pem = certificate(folder)
    machine.certificate = pem + ".crt"
    def opened(name):
        at = machine.path(name)
        os.makedirs(at, exist_ok=True)
        if name != "flake":
            os.chown(at, 65534, 65534)
        subprocess.run(["chmod", "a+rx", folder, machine.folder, at], check=True)
        return at
    machine.open = opened
    server.start(8901, machine.path("cache"), repository(folder))
    server.start(443, machine.path("cache"), "", pem)
    ssh = sshd(folder)
    version = machine.quietly("nix", "--version").split()[-1]
    cases.fill(machine)
    captured = {}
    groups = [cases.attributes, cases.caches, cases.inputs, cases.machines]
    for group in groups:
        for name, run in group(machine):
            if options.only and options.only not in name or name.endswith("-key") and not ssh:
                continue
            print(name, flush=True)
            log = run()
            fixed = nix.downloads(log, machine.last)
            captured[name] = [f"#: fixed {path}" for path in fixed] + list(nix.normal(nix.wanted(log), machine))
    if ssh:
        ssh.kill()
    return captured, f"What Nix {version} says."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--nix", help="the folder of another Nix's programs")
    parser.add_argument("--only", help="cases whose names have this in them")
    options = parser.parse_args()
    alone()
    os.makedirs(KEPT, exist_ok=True)
    file = os.path.join(KEPT, f"{options.name}.txt")
    with tempfile.TemporaryDirectory(prefix="capture-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        network(folder)
        import server
        server.names()
        if options.name.startswith("nix"):
            captured, head = of_nix(options, folder)
        else:
            import tools
            captured, head = tools.capture(options, folder, certificate(folder), sshd)
    before = read(file)
    write(file, {**before, **captured} if options.only or options.name == "tools" else captured, head)


main()
