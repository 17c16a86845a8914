#!/usr/bin/env python3
"""An object store with the parts of S3 that nix-cache uses, behind a model of the way from a hosted runner.

  benches/link/s3.py FOLDER    prints its address, serves one bucket from FOLDER, and ends with its standard input

The model is that of `examples/dev-server.rs --link`: 250 ms before each answer, 23 MB/s for a stream, 52 MB/s down and 84 MB/s up for all of
them. Signatures are not checked. Objects appear when they are complete; `If-None-Match: *` is honoured.
"""
import asyncio
import os
import sys
import time
import urllib.parse
from pathlib import Path
from xml.sax.saxutils import escape

LATENCY, STREAM, DOWN, UP = 0.25, 23e6, 52e6, 84e6
PIECE = 256 * 1024


class Rate:
    """Bytes a second, for all that share it."""

    def __init__(self, rate):
        self.rate, self.free = rate, 0.0

    def take(self, size):
        """Returns how long these bytes have to wait."""
        now = time.monotonic()
        self.free = max(self.free, now - 0.02) + size / self.rate
        return self.free - now


down, up = Rate(DOWN), Rate(UP)


async def passed(size, own, shared):
    wait = max(own.take(size), shared.take(size))
    if wait > 0:
        await asyncio.sleep(wait)


class Store:
    def __init__(self, folder):
        self.folder, self.number = Path(folder), 0

    def file(self, key):
        return self.folder / urllib.parse.quote(key, safe="")

    def keys(self):
        return sorted(urllib.parse.unquote(file.name) for file in self.folder.iterdir() if not file.name.startswith(","))

    def temporary(self):
        self.number += 1
        return self.folder / f",{self.number}"

    async def answer(self, method, key, query, headers, body):
        """Returns status, headers, and the file and its range, or bytes."""
        file = self.file(key) if key else None
        if method == "GET" and "list-type" in query:
            return 200, {}, self.list(query)
        if method == "POST" and "uploads" in query:
            upload = self.temporary()
            upload.mkdir()
            return 200, {}, f"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{escape(key)}</Key><UploadId>{upload.name}</UploadId></InitiateMultipartUploadResult>".encode()
        if method == "GET" and "uploads" in query:
            return 200, {}, b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
        if method == "PUT" and "partNumber" in query:
            os.replace(body, self.folder / query["uploadId"] / f"{int(query['partNumber']):05}")
            return 200, {"ETag": '"part"'}, b""
        if "uploadId" in query:
            parts = self.folder / query["uploadId"]
            if method == "POST" and "if-none-match" in headers and file.exists():
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
            if method == "POST":
                whole = self.temporary()
                with open(whole, "wb") as out:
                    for part in sorted(parts.iterdir()):
                        with open(part, "rb") as source:
                            left = part.stat().st_size
                            while left:
                                left -= os.copy_file_range(source.fileno(), out.fileno(), left)
                os.replace(whole, file)
                return 200, {}, f'<CompleteMultipartUploadResult><Location>l</Location><Bucket>b</Bucket><Key>{escape(key)}</Key><ETag>"whole"</ETag></CompleteMultipartUploadResult>'.encode()
            return 204, {}, b""
        if method == "PUT":
            if headers.get("if-none-match") == "*" and file.exists():
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
            os.replace(body, file)
            return 200, {"ETag": '"one"'}, b""
        if method == "DELETE":
            file.unlink(missing_ok=True)
            return 204, {}, b""
        if not file.exists():
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        size = file.stat().st_size
        facts = {"ETag": '"one"', "Accept-Ranges": "bytes", "Last-Modified": "Thu, 26 Nov 2026 00:00:00 GMT"}
        if method == "HEAD":
            return 200, facts | {"Content-Length": str(size)}, b""
        if wanted := headers.get("range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last or size - 1), size - 1)
            return 206, facts | {"Content-Range": f"bytes {first}-{last}/{size}"}, (file, first, last + 1 - first)
        return 200, facts, (file, 0, size)

    def list(self, query):
        keys = [key for key in self.keys() if key.startswith(query.get("prefix", "")) and key > query.get("start-after", "")]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-26T00:00:00.000Z</LastModified><ETag>&quot;one&quot;</ETag>"
            f"<Size>{self.file(key).stat().st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys[: int(query.get("max-keys", 1000))]
        )
        count = min(len(keys), 1000)
        return f"<ListBucketResult><Name>b</Name><Prefix></Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()


async def connection(store, reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in head[1:] if line)}
            path, _, query = target.partition("?")
            query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            key = urllib.parse.unquote(path.lstrip("/").partition("/")[2])
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            left, own, body = int(headers.get("content-length", 0)), Rate(STREAM), None
            if left or method == "PUT":
                body = store.temporary()
                with open(body, "wb") as out:
                    while left:
                        piece = await reader.read(min(left, PIECE))
                        if not piece:
                            return
                        await passed(len(piece), own, up)
                        out.write(piece)
                        left -= len(piece)
            await asyncio.sleep(LATENCY)
            status, more, content = await store.answer(method, key, query, headers, body)
            if body:
                body.unlink(missing_ok=True)
            size = content[2] if isinstance(content, tuple) else len(content)
            fields = {"Content-Length": str(size)} | more
            writer.write((f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode())
            if isinstance(content, tuple):
                await send(writer, *content)
            else:
                writer.write(content)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def send(writer, file, first, left):
    own = Rate(STREAM)
    with open(file, "rb") as source:
        source.seek(first)
        while left:
            piece = source.read(min(left, PIECE))
            await passed(len(piece), own, down)
            writer.write(piece)
            await writer.drain()
            left -= len(piece)


async def main(folder):
    store = Store(folder)
    server = await asyncio.start_server(lambda reader, writer: connection(store, reader, writer), "127.0.0.1", 0, limit=1 << 20)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
