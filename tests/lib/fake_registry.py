# SPDX-License-Identifier: Apache-2.0
"""A registry on the loopback interface that misbehaves on request, and keeps a log.

Each path, or method and path, has a list of things to answer; the last one is repeated. Real registries are used where
good behaviour is tested (`tests/lib/registry.py`).
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Seen:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What to send back. `drop_at` ends the connection after that many bytes of the body, with a
    reset when `reset`; `length` is a Content-Length other than the true one."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop_at: int | None = None
    reset: bool = False
    length: int | None = None
    endless: bool = False
    ranges: bool = True
    hold: threading.Event | None = None


Script = Answer | Callable[[Seen], Answer]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class FakeRegistry:
    """One server; `answers[path]` is the script for a path, `seen` the requests so far.

    `answers["PUT /path"]` is for one method only, and looked for first. With `tls` it speaks nothing else.
    """

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, list[Script]] = defaultdict(list)
        self.seen: list[Seen] = []
        self.cut_after = 1 << 60  # bytes of one body after which the next upload is cut, once
        self.on_cut: Callable[[Seen], None] = lambda _seen: None
        self._lock = threading.Lock()
        self._server = _Server(host, self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.host = host
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def domain(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.domain}"

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, path: str, *scripts: Script) -> None:
        self.answers[path].extend(scripts)

    def next_answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            path = seen.path.partition("?")[0]
            scripts = self.answers.get(f"{seen.method} {path}") or self.answers.get(path)
            if not scripts:
                errors = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                return Answer(404, body=json.dumps(errors).encode())
            script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        return script if isinstance(script, Answer) else script(seen)

    def requests(self, path: str, method: str = "") -> list[Seen]:
        return [
            each
            for each in self.seen
            if each.path.partition("?")[0] == path and method in ("", each.method)
        ]

    def takes_uploads(self, repository: str = "image") -> Uploads:
        """Answer to uploads of blobs as the specification says; what came is in the result."""
        return Uploads(self, repository)

    def cut(self, seen: Seen) -> None:
        """A body was cut off after `seen.body`; the next one comes through."""
        with self._lock:
            self.seen.append(seen)
            self.cut_after = 1 << 60
        self.on_cut(seen)

    # -- content --------------------------------------------------------------------------------

    def add_blob(self, data: bytes, repository: str = "image") -> str:
        name = digest(data)
        self.add(f"/v2/{repository}/blobs/{name}", Answer(body=data))
        return name

    def add_manifest(
        self, document: dict[str, Any] | bytes, name: str = "latest", repository: str = "image"
    ) -> str:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        media_type = MANIFEST if isinstance(document, bytes) else document["mediaType"]
        for each in (name, digest(body)):
            answer = Answer(headers={"Content-Type": media_type}, body=body)
            self.add(f"/v2/{repository}/manifests/{each}", answer)
        return digest(body)

    def add_image(self, *layers: bytes, name: str = "latest", **changes: Any) -> dict[str, Any]:
        """An image of uncompressed layers; `changes` go into its config document."""
        config = {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            **changes,
        }
        body = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.add_blob(body), "size": len(body)},
            "layers": [
                {"mediaType": LAYER, "digest": self.add_blob(layer), "size": len(layer)}
                for layer in layers
            ],
        }
        self.add_manifest(manifest, name)
        return manifest


class Uploads:
    """Uploads into one repository: sessions, pieces, the end. A test may spoil single answers."""

    def __init__(self, registry: FakeRegistry, repository: str) -> None:
        self.registry = registry
        self.base = f"/v2/{repository}/blobs/uploads/"
        self.session = self.base + "session"
        self.received = bytearray()
        self.blobs: dict[str, bytes] = {}
        registry.add(f"POST {self.base}", self.begin)
        registry.add(f"PATCH {self.session}", self.piece)
        registry.add(f"GET {self.session}", self.status)
        registry.add(f"PUT {self.session}", self.end)

    def begin(self, seen: Seen) -> Answer:
        self.received.clear()
        return Answer(202, {"Location": self.session + "?state=0", "Range": "0-0"})

    def piece(self, seen: Seen) -> Answer:
        first = int(seen.headers["Content-Range"].partition("-")[0])
        if first != len(self.received):
            return self._where(416)
        self.received += seen.body
        return self._where(202)

    def status(self, seen: Seen) -> Answer:
        return self._where(204)

    def end(self, seen: Seen) -> Answer:
        self.received += seen.body
        name = digest(bytes(self.received))
        if f"digest={name.replace(':', '%3A')}" not in seen.path:
            return Answer(400, body=b'{"errors":[{"code":"DIGEST_INVALID","message":"digest"}]}')
        self.blobs[name] = bytes(self.received)
        return Answer(201, {"Location": f"/blobs/{name}"})

    def _where(self, status: int) -> Answer:
        told = f"0-{max(len(self.received) - 1, 0)}"
        location = f"{self.session}?state={len(self.received)}"
        return Answer(status, {"Location": location, "Range": told})


class _Handler(BaseHTTPRequestHandler):
    """Plays the script of a path."""

    protocol_version = "HTTP/1.1"
    timeout = 20.0  # seconds; only a client that forgets to close a connection reaches it
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(min(length, self.server.registry.cut_after))
        if len(body) < length:
            self.server.registry.cut(
                Seen(self.command, self.path, dict(self.headers.items()), body)
            )
            self._hang_up(reset=True)
            return
        seen = Seen(self.command, self.path, dict(self.headers.items()), body)
        answer = self.server.registry.next_answer(seen)
        start = _range_start(seen) if answer.ranges and answer.status == 200 else 0
        self._send(answer, start)

    do_POST = do_PUT = do_PATCH = do_HEAD = do_GET

    def _send(self, answer: Answer, start: int) -> None:
        body, status, headers = answer.body[start:], answer.status, dict(answer.headers)
        if start:
            status, total = 206, len(answer.body)
            headers.setdefault("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.endless:
            self._send_for_ever()
        length = len(body) if answer.length is None else answer.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if answer.drop_at is None else body[: max(0, answer.drop_at - start)])
        if answer.hold is not None:
            answer.hold.wait()
        if answer.drop_at is not None or answer.length is not None:
            self._hang_up(reset=answer.reset)

    def _send_for_ever(self) -> None:
        self.close_connection = True
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65536)

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        self.wfile.flush()
        if reset:  # SO_LINGER of zero seconds: close(2) sends RST, see socket(7)
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for them, so that no descriptor outlives it

    def __init__(self, host: str, registry: FakeRegistry) -> None:
        super().__init__((host, 0), _Handler)
        self.registry = registry

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what this is for."""


def _range_start(seen: Seen) -> int:
    text = seen.headers.get("Range", "")
    return int(text.removeprefix("bytes=").partition("-")[0] or "0") if text else 0


@contextmanager
def unused_port() -> Iterator[int]:
    """A port nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
