"""What compilers, test programs and package managers print when they fail. Each is run in a folder of its own.

Names begin with the place of the lines: `download` for what runs with a network, `log` for any other builder.
"""

import os
import re
import shutil
import subprocess

import server
from nix import HERE

HTTP = "http://127.0.0.1:8901"
# Addresses that fail, and how.
BAD = {
    "port": "http://127.0.0.1:1", "host": "https://no-such-host.example", "names": "https://fail.example", "tls": "https://tls.example",
    "route": "http://203.0.113.1", "reset": f"{HTTP}/reset", "late": "http://127.0.0.1:2",
    **{status: f"{HTTP}/status/{status}" for status in ["401", "403", "404", "408", "410", "429", "500", "502", "503", "504"]},
}
NPM = '{"name": "a", "version": "1.0.0", "dependencies": {"left-pad": "1.3.0"}}\n'
CARGO = '[package]\nname = "a"\nversion = "0.1.0"\nedition = "2021"\n'
GO = "module example.org/a\n\ngo 1.19\n\nrequire example.com/b v1.0.0\n"
FAKE = "#!/bin/sh\nkill -9 $$\n"


def downloads():
    """Name, program, files, command. `@url@` is an address that fails."""
    files = {"package.json": NPM}
    yield "curl", "curl", {}, "curl --fail --silent --show-error --location -o out @url@/x"
    yield "wget", "wget", {}, "wget --tries=1 --no-verbose -O out @url@/x"
    yield "busybox-wget", "busybox", {}, "busybox wget -O out @url@/x"
    yield "git", "git", {}, "GIT_TERMINAL_PROMPT=0 git clone --quiet @url@/a.git out"
    yield "npm", "npm", files, "npm install --no-audit --no-fund --fetch-retries=0 --registry @url@/"
    yield "yarn", "yarn", files, "yarn install --registry @url@/ --network-timeout 3000 --non-interactive"
    yield "pip", "pip", {}, "pip download --no-color --no-input --retries 1 --disable-pip-version-check --index-url @url@/simple left-pad"
    yield "cargo", "cargo", {
        "Cargo.toml": CARGO + '[dependencies]\nb = "1"\n', "src/lib.rs": "",
        ".cargo/config.toml": '[source.crates-io]\nreplace-with = "c"\n[source.c]\nregistry = "sparse+@url@/"\n[net]\nretry = 0\n',
    }, "cargo fetch"
    yield "cargo-git", "cargo", {
        "Cargo.toml": CARGO + '[dependencies]\nb = { git = "@url@/b.git" }\n', "src/lib.rs": "", ".cargo/config.toml": "[net]\nretry = 0\n",
    }, "cargo fetch"
    yield "go", "go", {"go.mod": GO, "a.go": 'package a\n\nimport _ "example.com/b"\n'}, "GOFLAGS=-mod=mod GONOSUMDB=* GONOSUMCHECK=1 GOPROXY=@url@ go mod download"
    yield "gem", "gem", {}, "gem fetch rake --clear-sources --source @url@/"
    yield "python", "python3", {}, "python3 -c 'import urllib.request as u; u.urlopen(\"@url@/x\")'"
    yield "maven", "mvn", {
        "settings.xml": "<settings><mirrors><mirror><id>a</id><mirrorOf>*</mirrorOf><url>@url@</url></mirror></mirrors></settings>\n",
    }, "mvn -B -ntp org.apache.maven.plugins:maven-dependency-plugin:3.6.0:get -Dartifact=a:a:1 -s settings.xml"


TESTS = [
    ("node", "node", {"a.test.js": "require('node:test')('adds', () => require('node:assert').equal(1, 2));\n"}, "node --test"),
    ("node-tap", "node", {"a.test.js": "require('node:test')('adds', () => require('node:assert').equal(1, 2));\n"}, "node --test --test-reporter=tap"),
    ("prove", "prove", {"t/a.t": "use Test::More tests => 2;\nok(1);\nis(1, 2, 'adds');\n"}, "prove -v"),
    ("jest", "jest", {"package.json": "{}", "a.test.js": "test('adds', () => { expect(1).toBe(2); });\n"}, "jest --ci"),
    ("mocha", "mocha", {"test/a.js": "it('adds', () => { require('assert').equal(1, 2); });\n"}, "mocha"),
    ("vitest", "vitest", {"package.json": "{}", "a.test.js": "import { test, expect } from 'vitest';\ntest('adds', () => { expect(1).toBe(2); });\n"}, "vitest run"),
    ("ava", "ava", {"package.json": '{"type": "module"}', "test.js": "import test from 'ava';\ntest('adds', t => { t.is(1, 2); });\n"}, "ava"),
    ("tap", "tap", {"package.json": "{}", "test/a.js": "const t = require('tap');\nt.equal(1, 2);\n"}, "tap --disable-coverage --allow-empty-coverage"),
    ("gtest", "g++", {"a.cc": "#include <gtest/gtest.h>\nTEST(Adds, One) { EXPECT_EQ(1, 2); }\n"}, "g++ a.cc -o a -lgtest -lgtest_main -pthread && ./a"),
    ("ctest", "ctest", {"CMakeLists.txt": "cmake_minimum_required(VERSION 3.10)\nproject(a NONE)\nenable_testing()\nadd_test(NAME adds COMMAND false)\n"}, "cmake . >/dev/null && ctest"),
    ("cargo", "cargo", {"Cargo.toml": CARGO, "src/lib.rs": "#[test]\nfn adds() {\n    assert_eq!(1, 2);\n}\n"}, "cargo test --offline"),
    ("doctest", "cargo", {"Cargo.toml": CARGO, "src/lib.rs": "/// ```\n/// assert_eq!(1, 2);\n/// ```\npub fn a() {}\n"}, "cargo test --offline --doc"),
    ("nextest", "cargo-nextest", {"Cargo.toml": CARGO, "src/lib.rs": "#[test]\nfn adds() {\n    assert_eq!(1, 2);\n}\n"}, "cargo nextest run --offline"),
    ("go", "go", {"go.mod": "module example.org/a\n\ngo 1.19\n", "a_test.go": 'package a\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) { t.Fatal("1 is not 2") }\n'}, "go test ./..."),
    ("rspec", "rspec", {"spec/a_spec.rb": "RSpec.describe 'a' do\n  it('adds') { expect(1).to eq(2) }\nend\n"}, "rspec"),
    ("minitest", "ruby", {"a.rb": "require 'minitest/autorun'\nclass A < Minitest::Test\n  def test_adds\n    assert_equal 1, 2\n  end\nend\n"}, "ruby a.rb"),
    ("phpunit", "phpunit", {"ATest.php": "<?php\nfinal class ATest extends PHPUnit\\Framework\\TestCase {\n  public function testAdds(): void { $this->assertSame(1, 2); }\n}\n"}, "phpunit ATest.php"),
    ("bats", "bats", {"a.bats": '@test "adds" {\n  [ 1 -eq 2 ]\n}\n'}, "bats a.bats"),
    ("pytest", "pytest", {"test_a.py": "def test_adds():\n    assert 1 == 2\n"}, "pytest"),
    ("pytest-quiet", "pytest", {"test_a.py": "def test_adds():\n    assert 1 == 2\n"}, "pytest -q --tb=short -rN"),
    ("unittest", "python3", {"test_a.py": "import unittest\nclass A(unittest.TestCase):\n    def test_adds(self):\n        self.assertEqual(1, 2)\n    def test_fails(self):\n        int('x')\n"}, "python3 -m unittest"),
    ("unittest-error", "python3", {"test_a.py": "import unittest\nclass A(unittest.TestCase):\n    def test_fails(self):\n        int('x')\n"}, "python3 -m unittest"),
    ("meson", "meson", {"meson.build": "project('a')\ntest('adds', find_program('false'))\n"}, "meson setup b >/dev/null && meson test -C b"),
    ("automake", "automake", {
        "configure.ac": "AC_INIT([a], [1])\nAM_INIT_AUTOMAKE([foreign])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
        "Makefile.am": "TESTS = adds.sh\n", "adds.sh": "#!/bin/sh\nexit 1\n",
    }, "chmod +x adds.sh && autoreconf -i >/dev/null 2>&1 && ./configure >/dev/null && make check"),
]
MEMORY = [
    ("python", "python3", {}, "ulimit -v 200000; python3 -c 'x = bytearray(1 << 30)'"),
    ("node", "node", {}, "node --max-old-space-size=20 -e 'let a = []; for (;;) a.push([...Array(1000).keys()])'"),
    ("rustc", "rustc", {"a.rs": "fn main() { let mut v: Vec<u64> = Vec::new(); for i in 0.. { v.push(i); } println!(\"{}\", v.len()); }\n"}, "rustc a.rs && (ulimit -v 200000; ./a)"),
    ("cargo-killed", "cargo", {"Cargo.toml": CARGO, "src/lib.rs": "", "rustc": "#!/bin/sh\ncase \"$*\" in *--crate-name*a*src/lib.rs*) kill -9 $$ ;; esac\nexec rustc \"$@\"\n"}, "chmod +x rustc && RUSTC=$PWD/rustc cargo build --offline"),
    ("gcc", "gcc", {"a.c": "char x[] = {" + "1," * 2_000_000 + "};\n"}, "ulimit -v 60000; gcc -c a.c"),
    ("gcc-killed", "gcc", {"a.c": "int x;\n", "b/cc1": FAKE}, "chmod +x b/cc1 && gcc -B b/ -c a.c"),
    ("ld", "gcc", {"a.c": "char x[3u << 28] = {1};\nint main(void) { return 0; }\n"}, "gcc -c a.c && (ulimit -v 300000; ld -r a.o a.o -o b.o || ld a.o -o b.o)"),
    ("ld-killed", "gcc", {"a.c": "int main(void) { return 0; }\n", "b/ld": FAKE}, "chmod +x b/ld && gcc -B b/ a.c"),
    ("make-killed", "make", {"Makefile": "a:\n\tkill -9 $$$$\n"}, "make a"),
    ("make-137", "make", {"Makefile": "a:\n\tsh -c 'kill -9 $$$$'; exit $$?\n"}, "make a"),
    ("ghc", "ghc", {"a.hs": "main = print (sum xs + product xs) where xs = [1 .. 10 ^ 8 :: Integer]\n"}, "ghc -rtsopts a.hs >/dev/null && ./a +RTS -M20m"),
    ("ghc-compiler", "ghc", {"a.hs": "main = print 1\n"}, "ghc a.hs +RTS -M8m"),
    ("java", "java", {"A.java": "class A { public static void main(String[] a) { long[] b = new long[1 << 28]; } }\n"}, "java -Xmx20m A.java"),
    ("java-native", "java", {}, "ulimit -v 300000; java -Xms200m -Xmx250m -version"),
    ("go", "go", {"a.go": "package main\n\nfunc main() {\n\tx := make([]byte, 8<<30)\n\t_ = x[len(x)-1]\n\tprintln(len(x))\n}\n"}, "go build a.go && (ulimit -v 600000; ./a)"),
    ("dd", "dd", {}, "ulimit -v 30000; dd if=/dev/zero of=/dev/null bs=200M count=1"),
    ("busybox", "busybox", {}, "ulimit -v 30000; busybox dd if=/dev/zero of=/dev/null bs=200M count=1"),
    ("cxx", "g++", {"a.cc": "#include <vector>\nint main() { std::vector<char> v(1ul << 40); return v.size(); }\n"}, "g++ a.cc -o a && (ulimit -v 300000; ./a)"),
    ("fork", "strace", {}, "strace -f -qq -o /dev/null -e trace=clone,fork,vfork -e inject=clone,fork,vfork:error=ENOMEM bash -c 'ls; ls'"),
    ("perl", "perl", {}, "ulimit -v 100000; perl -e '$x = \"a\" x (1 << 30)'"),
]
DISK = [
    ("cp", "cp", {}, "head -c 3000000 /dev/zero >big; cp big @full@/x"),
    ("dd", "dd", {}, "dd if=/dev/zero of=@full@/x bs=1M count=3"),
    ("gcc", "gcc", {"a.c": "char x[3000000] = {1};\n"}, "gcc -c a.c -o @full@/a.o"),
    ("python", "python3", {}, "python3 -c 'open(\"@full@/x\", \"wb\").write(bytes(3000000))'"),
    ("tar", "tar", {}, "head -c 3000000 /dev/urandom >big; tar -cf a.tar big; tar -xf a.tar -C @full@"),
    ("node", "node", {}, "node -e 'require(\"fs\").writeFileSync(\"@full@/x\", Buffer.alloc(3000000))'"),
    ("cargo", "cargo", {"Cargo.toml": CARGO, "src/lib.rs": "#[test]\nfn a() {}\n"}, "CARGO_TARGET_DIR=@full@/t cargo test --offline"),
    ("quota", "strace", {}, "strace -f -qq -o /dev/null -e trace=write -e inject=write:error=EDQUOT:when=1 dd if=/etc/hosts of=x status=none"),
]
# What only looks like a machine that fails: a test that passes and speaks of it, and a compiler that fails.
BUILDS = [
    ("mention-cargo", "cargo", {"Cargo.toml": CARGO, "src/lib.rs": "#[test]\nfn no_space_left_on_device_is_told() {\n    println!(\"No space left on device\");\n}\n", "tests/a.rs": "fn main() { let x: u32 = \"\"; }\n"}, "cargo test --offline --lib -- --nocapture; cargo test --offline"),
    ("mention-mocha", "mocha", {"test/a.js": "it('retries when it says ENOSPC: no space left on device', () => {});\nit('tells of JavaScript heap out of memory', () => {});\n", "a.c": "int main(void) { return x; }\n"}, "mocha && gcc a.c"),
    ("mention-prove", "prove", {"t/a.t": "use Test::More tests => 1;\nok(1, 'dd: Out of memory is told');\n", "a.c": "int main(void) { return x; }\n"}, "prove -v && gcc a.c"),
    ("compile-c", "gcc", {"a.c": "int main(void) { return x; }\n"}, "gcc a.c"),
    ("compile-rust", "rustc", {"a.rs": "fn main() { x }\n"}, "rustc a.rs"),
    ("compile-go", "go", {"a.go": "package main\n\nfunc main() { x }\n"}, "go build a.go"),
]
PLACES = {"test": TESTS, "memory": MEMORY, "disk": DISK, "build": BUILDS}


def capture(options, folder, pem, sshd):
    cache = os.path.join(folder, "cache")
    os.makedirs(cache)
    server.start(8901, cache, "")
    server.start(443, cache, "", pem)
    ssh = sshd(folder)
    small = os.path.join(folder, "full")
    os.makedirs(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    captured, programs = {}, set()
    try:
        for name, program, files, command in every():
            if options.only and options.only not in name or not shutil.which(program):
                continue
            print(name, flush=True)
            captured[name] = run(folder, name, files, command, small)
            programs.add(program)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
        if ssh:
            ssh.kill()
    return captured, "What compilers, test programs and package managers say."


def every():
    for name, program, files, command in downloads():
        for how, url in BAD.items():
            # It waits for minutes for a busy server.
            if name == "maven" and how not in ("port", "404"):
                continue
            fill = lambda text, url=url: text.replace("@url@", url)
            line = fill(command)
            if how == "late":
                # Nobody answers, and time is up: without waiting for it.
                line = "strace -f -qq -o /dev/null -e trace=connect -e inject=connect:error=ETIMEDOUT " + re.sub(r"^((?:[A-Z_]+=\S+ )*)", r"env \1", line)
            yield f"download-{name}-{how}", program, {file: fill(text) for file, text in files.items()}, line
    yield "download-curl-cut", "curl", {}, f"curl --fail --silent --show-error -o out {HTTP}/cut/x"
    for how, port in [("port", 1), ("late", 2), ("key", 8922)]:
        strace = "strace -f -qq -o /dev/null -e trace=connect -e inject=connect:error=ETIMEDOUT " if how == "late" else ""
        yield f"download-ssh-{how}", "ssh", {}, f"GIT_SSH_COMMAND='{strace}ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null' git clone --quiet ssh://git@127.0.0.1:{port}/a.git out"
    yield "download-ssh-unknown", "ssh", {}, "GIT_SSH_COMMAND='ssh -o BatchMode=yes -o UserKnownHostsFile=/dev/null' git clone --quiet ssh://git@127.0.0.1:8922/a.git out"
    for how, host in [("host", "no-such-host.example"), ("names", "fail.example")]:
        yield f"download-ssh-{how}", "ssh", {}, f"GIT_SSH_COMMAND='ssh -o BatchMode=yes' git clone --quiet ssh://git@{host}/a.git out"
    for place, all_of_it in PLACES.items():
        for name, program, files, command in all_of_it:
            yield f"log-{place}-{name}", program, files, command


def run(folder, name, files, command, small):
    home = os.path.join(folder, name)
    work = os.path.join(home, "build")
    for file, text in files.items():
        at = os.path.join(work, file)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "w") as out:
            out.write(text)
    os.makedirs(work, exist_ok=True)
    # What a project would have installed beside itself.
    modules = os.environ.get("CAPTURE_NODE_MODULES")
    if modules and "package.json" in files and "dependencies" not in files["package.json"] or "-tap" in name or "-ava" in name:
        os.symlink(modules, os.path.join(work, "node_modules"))
    environment = {
        **os.environ, "HOME": home, "NO_COLOR": "1", "FORCE_COLOR": "0", "CI": "1", "LANG": "C.UTF-8", "CARGO_TERM_COLOR": "never",
        "GOPATH": os.path.join(home, "go"), "GOCACHE": os.path.join(home, "go-cache"), "XDG_CACHE_HOME": os.path.join(home, "cache"),
    }
    for secret in [key for key in environment if key.startswith(("CARGO_REGISTRIES", "CARGO_SOURCE", "CARGO_HTTP", "PIP_", "NPM_CONFIG", "npm_config", "GOPROXY", "GOFLAGS"))]:
        del environment[secret]
    environment["CARGO_HOME"], environment["RUSTUP_HOME"] = os.path.join(home, "cargo"), os.environ.get("RUSTUP_HOME", "/root/.rustup")
    done = subprocess.run(["bash", "-c", command.replace("@full@", small)], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    for entry in os.listdir(small):
        subprocess.run(["rm", "-rf", os.path.join(small, entry)], check=True)
    text = done.stdout.decode(errors="replace").replace(work, "/build").replace(home, "/homeless-shelter").replace(small, "/build/full").replace(folder, "/tmp").replace(os.environ.get("CAPTURE_NODE_MODULES", "\0"), "/build/node_modules")
    lines = [re.sub(r".*\r(?=.)", "", line.rstrip("\r")) for line in text.splitlines()]
    # The source of a compiler's message about one line may be as long as the program.
    lines = [line[:3000] for line in lines]
    if not done.returncode and "ERROR" not in text:
        raise RuntimeError(f"{name} did not fail: {text}")
    return [line for line in lines if line.strip()][-60:]
