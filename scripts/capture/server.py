"""A server that fails as its addresses say: a binary cache, a download, a Git repository, GitHub's API."""

import http.server
import os
import socket
import ssl
import struct
import subprocess
import threading

FORGED = b"this is not what it should be\n" * 40


class Handler(http.server.BaseHTTPRequestHandler):
    """`/status/503/x` answers 503; `/nar-503/x` is a file of the cache, its NARs refused with 503; `/git/...` is Git's own server."""

    protocol_version = "HTTP/1.1"
    cache = ""
    repositories = ""

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("Host", "").startswith("api.github.com"):
            return self.github()
        mode, _, rest = self.path.lstrip("/").partition("/")
        if mode == "status":
            return self.answer(int(rest.split("/")[0]), b"refused\n")
        if mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        if mode == "file":
            return self.answer(200, FORGED)
        if mode == "cut":
            return self.answer(200, FORGED, cut=True)
        if mode.startswith("git"):
            return self.git(mode, rest)
        self.cached(mode, rest.split("?")[0])

    do_HEAD = do_GET
    do_POST = do_GET

    def cached(self, mode, name):
        try:
            with open(os.path.join(self.cache, name), "rb") as file:
                body = file.read()
        except OSError:
            return self.answer(404, b"")
        kind, _, fault = mode.partition("-")
        of = {"nar": "nar/", "narinfo": ".narinfo", "info": "nix-cache-info"}.get(kind)
        if of is None or of not in name:
            return self.answer(200, body)
        if fault == "truncated":
            return self.answer(200, body, cut=True)
        if fault == "short":
            return self.answer(200, body[: len(body) // 2])
        if fault == "corrupt":
            return self.answer(200, bytes(reversed(body)))
        if fault == "other":
            other = os.path.join(self.cache, "nar", "other")
            with open(other, "rb") as file:
                return self.answer(200, file.read())
        if fault == "garbage":
            return self.answer(200, b"this is no narinfo\n")
        self.answer(int(fault), b"refused\n")

    def github(self):
        if "limited" in self.path:
            body = b'{"message":"API rate limit exceeded for 127.0.0.1. (But here\'s the good news: Authenticated requests get a higher rate limit.)","documentation_url":"https://docs.github.com/rest/overview/resources-in-the-rest-api#rate-limiting"}\n'
            return self.answer(403, body, reason="rate limit exceeded")
        if "token" in self.path:
            return self.answer(401, b'{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest"}\n')
        self.answer(404, b'{"message":"Not Found","documentation_url":"https://docs.github.com/rest"}\n')

    def git(self, mode, rest):
        path, _, query = rest.partition("?")
        if mode == "git-401":
            return self.answer(401, b"", headers={"WWW-Authenticate": 'Basic realm="git"'})
        if mode == "git-503":
            return self.answer(503, b"")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ, "GIT_PROJECT_ROOT": self.repositories, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": "/" + path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        told = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True).stdout
        head, _, body = told.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self.answer(status, body, headers, cut=mode == "git-cut" and b"packfile" in body, short=mode == "git-short" and b"packfile" in body)

    def answer(self, status, body, headers=None, reason=None, cut=False, short=False):
        sent = body[: len(body) // 2] if cut or short else body
        self.send_response(status, reason)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent if short else body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
        self.close_connection = True


def start(port, cache, repositories, certificate=None):
    """Serves on the loopback until the program ends."""
    handler = type("Bound", (Handler,), {"cache": cache, "repositories": repositories})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def names():
    """A name server that knows no name, and fails for those that begin with `fail`."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 53))

    def serve():
        while True:
            asked, who = bound.recvfrom(512)
            code = 2 if asked[13:].startswith(b"fail") else 3
            bound.sendto(asked[:2] + bytes([0x81, 0x80 | code]) + asked[4:6] + bytes(6) + asked[12:], who)

    threading.Thread(target=serve, daemon=True).start()
