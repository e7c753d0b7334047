"""A hub on the loopback interface: what `huggingface_hub` asks for, and what can go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = 64  # bytes from which a file is kept as LFS does


@dataclass
class FakeHub:
    """Repositories in memory, and faults to inject; `asked` is what files were asked for."""

    repositories: dict[str, dict[str, bytes]]
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range
    statuses: dict[str, list[int]] = field(default_factory=dict)  # answers before the real one
    codes: dict[str, str] = field(default_factory=dict)  # X-Error-Code of those answers
    cuts: list[int] = field(default_factory=list)  # bytes after which an answer breaks off
    lies: dict[str, bytes] = field(default_factory=dict)  # what is sent instead
    names: dict[str, str] = field(default_factory=dict)  # what a file is called in listings
    ranges: bool = True
    stall: threading.Event | None = None  # answers wait for it after their first bytes

    def listing(self, name: str) -> dict[str, object]:
        """A repository as the hub's API tells it."""
        siblings = []
        for path, data in self.repositories[name].items():
            told: dict[str, object] = {"rfilename": self.names.get(path, path), "size": len(data)}
            told["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            if len(data) >= LARGE:
                digest = hashlib.sha256(data).hexdigest()
                told["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(told)
        return {"id": name, "modelId": name, "sha": REVISION, "siblings": siblings}


@contextmanager
def serving(repositories: Mapping[str, Mapping[str, bytes]]) -> Iterator[FakeHub]:
    """Run a hub while the block runs."""
    hub = FakeHub({name: dict(files) for name, files in repositories.items()})

    class Handler(_Handler):
        serves = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.stall is not None:
            hub.stall.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    serves: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:  # type: ignore[override]
        """Be quiet."""

    def do_GET(self) -> None:
        hub, path = self.serves, self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.*)?", path):
            self._listing(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.*)", path):
            hub.asked.append((found[2], self.headers.get("Range") or ""))
            self._file(found[1], found[2])
        else:
            self._fail(404)

    def _listing(self, name: str) -> None:
        if self._refused(name):
            return
        if name not in self.serves.repositories:
            self._fail(404, "RepoNotFound")
            return
        self._send(200, json.dumps(self.serves.listing(name)).encode(), {})

    def _file(self, name: str, path: str) -> None:
        hub = self.serves
        if self._refused(path):
            return
        data = hub.lies.get(path, hub.repositories[name][path])
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and hub.ranges:
            start, status = int(wanted[1]), 206
        headers = {"ETag": '"x"', "X-Repo-Commit": REVISION}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(status, data[start:], headers, cut=hub.cuts.pop(0) if hub.cuts else None)

    def _refused(self, what: str) -> bool:
        left = self.serves.statuses.get(what)
        if not left:
            return False
        status = left[0] if len(left) == 1 and left[0] < 500 else left.pop(0)
        self._fail(status, self.serves.codes.get(what, ""))
        return True

    def _fail(self, status: int, code: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, b"{}", {**headers, "X-Error-Message": "so it is"})

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        stall = self.serves.stall if status in (200, 206) and "ETag" in headers else None
        try:
            if stall is not None:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                stall.wait(60)
                body = body[len(body) // 2 :]
            self.wfile.write(body if cut is None else body[:cut])
        except OSError:
            return
        if cut is not None:
            self.close_connection = True
