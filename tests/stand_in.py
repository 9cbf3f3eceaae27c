"""An HTTP server on 127.0.0.1 that misbehaves on demand; the stand-in services are built on it."""

import contextlib
import json
import os
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer."""

    status: int | None = None
    """Answer with this error instead."""
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "out of order"
    cut_after: int | None = None
    """Hang up after so many bytes of the body."""
    stall: bool = False
    """Keep the line open and say nothing more, instead of hanging up."""
    corrupt: bool = False
    """Put zeros where the last bytes of the body were; its size stays."""
    page: bytes | None = None
    """Answer 200 with this web page, as a hotel's login portal does."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    """With lower-case names."""
    body: bytes


class StandIn:
    """Answers in threads, notes every request, takes one fault from the queue for each answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.ignore_range = False
        self._closing = threading.Event()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                stand_in.requests.append(request)
                stand_in.answer(request, self)

            do_GET = do_HEAD = do_POST = _handle

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: Request, handler: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, where: str) -> Fault | None:
        return self.faults[where].pop(0) if self.faults[where] else None

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes = b"",
        headers: Mapping[str, str] | None = None, fault: Fault | None = None,
    ) -> None:  # fmt: skip
        cut = fault.cut_after if fault else None
        with contextlib.suppress(OSError):  # the client may close the connection first
            handler.send_response(status)
            all_headers = {"Content-Type": "application/octet-stream", **(headers or {})}
            for name, value in {**all_headers, "Content-Length": str(len(body))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(body if cut is None else body[:cut])
                handler.wfile.flush()
            if cut is not None:
                self._hang_up(handler, fault)

    def _hang_up(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        handler.close_connection = True
        if fault.stall:
            self._closing.wait(30)
        handler.connection.shutdown(socket.SHUT_RDWR)

    def send_json(
        self, handler: BaseHTTPRequestHandler, value: Any, status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        headers = {"Content-Type": "application/json", **(headers or {})}
        self.send(handler, status, json.dumps(value).encode(), headers)

    def went_wrong(self, handler: BaseHTTPRequestHandler, fault: Fault | None) -> bool:
        """Play a fault that replaces the whole answer; False if there is none."""
        if fault is None:
            return False
        if fault.status:
            value = {"code": fault.status, "message": fault.message}
            self.send_json(handler, value, fault.status, fault.headers)
        elif fault.page is not None:
            self.send(handler, 200, fault.page, {"Content-Type": "text/html"})
        elif fault.stall and fault.cut_after is None:
            with contextlib.suppress(OSError):
                self._hang_up(handler, fault)
        else:
            return False
        return True

    def send_file(
        self, request: Request, handler: BaseHTTPRequestHandler, data: bytes, etag: str,
        headers: Mapping[str, str], fault: Fault | None,
    ) -> None:  # fmt: skip
        """A file or the range of it that was asked for, as an object store sends it."""
        if fault and fault.corrupt:
            data = data[:-30] + bytes(min(30, len(data)))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        unchanged = request.headers.get("if-range") in (None, etag)
        headers = {"ETag": etag, "Accept-Ranges": "bytes", **headers}
        if not (wanted and unchanged) or self.ignore_range:
            self.send(handler, 200, data, headers, fault)
            return
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        if first >= len(data):
            self.send(handler, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.send(handler, 206, data[first : last + 1], headers, fault)


def forget_credentials(monkeypatch, home: Path) -> None:
    """An environment and a home without any credentials, whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("KAGGLE", "HF_", "VERBOSE", "XDG_CONFIG_HOME")):
            monkeypatch.delenv(name)
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
