"""A proxy before a storage server that fails a share of the requests, in every way that a network knows."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

STATUSES = {"429": 429, "500": 500, "502": 502, "503": 503}
FAULTS = (
    *STATUSES,
    "reset",  # before the server hears of the request
    "lost",  # the server has done it, and the answer is lost
    "torn",  # reset in the middle of the answer
    "cut",  # the connection ends in the middle of the answer, as if that were all
    "silent",  # no answer at all
    "late",  # no answer either, but long after the client has given up the server gets the request
    "slow",
    "flipped download",  # one bit of an object's content, not of what is told about it: that is TLS's matter
    "flipped upload",
)
PASSED = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "date",
    "server",
}  # headers that are the proxy's own


class FaultyProxy:
    """Stands before `upstream`; `share` of all requests fail, in one of `faults` that fits the request.

    `share`, `faults` and `late_secs` may be changed at any time, and uploads meet what is `planned` first;
    `counts` says what was done. What fails is drawn from `seed`, the rarest fault first, but threads come in
    any order.
    """

    def __init__(self, upstream: str, share: float, faults: tuple[str, ...] = FAULTS, seed: int = 0) -> None:
        self.share, self.faults = share, faults
        self.planned: list[str] = []
        self.late_secs = 2.0
        self.counts: Counter[str] = Counter()
        self._upstream = urlsplit(upstream).netloc
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._ended = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # the connection was closed, by either side
                    super().handle_one_request()

            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        content = _content(request, body)
        fault = self._draw(is_download=_is_download(request), is_upload=content.start < content.stop)
        if fault in STATUSES:
            _answer(request, STATUSES[fault], [], b"{}")
        elif fault == "reset":
            _reset(request)
        elif fault == "silent":
            self._ended.wait(30)
            _reset(request)
        elif fault == "late":
            if not self._ended.wait(self.late_secs):
                self._pass_on(request, body, fault)
        else:
            if fault == "flipped upload":
                body = self._flip(body, content)
            self._pass_on(request, body, fault)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes, fault: str) -> None:
        server = http.client.HTTPConnection(self._upstream, timeout=60)
        server.request(request.command, request.path, body, dict(request.headers))
        answer = server.getresponse()
        data = answer.read()
        server.close()
        with self._lock:
            self.counts["passed on"] += 1
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in PASSED]
        if fault == "lost":
            _reset(request)
        elif fault in ("torn", "cut"):
            if data and _is_download(request):  # what is resumed must be checked, too
                data = self._flip(data, range(-(-len(data) // 2)))
            _answer(request, answer.status, headers, data, of=len(data) // 2)
            if fault == "torn":
                _reset(request)
            request.close_connection = True
        elif fault == "slow":
            _answer(request, answer.status, headers, data, pause_secs=0.05)
        else:
            if fault == "flipped download" and data:
                data = self._flip(data, range(len(data)))
            _answer(request, answer.status, headers, data)

    def _draw(self, is_download: bool, is_upload: bool) -> str:
        fitting = {"flipped download": is_download, "flipped upload": is_upload}
        with self._lock:
            self.counts["requests"] += 1
            faults = [fault for fault in self.faults if fitting.get(fault, True)]
            fails = faults and self._rng.random() < self.share
            rarest = min((self.counts[fault], self._rng.random(), fault) for fault in faults or FAULTS)
            fault = rarest[-1] if fails else "none"
            if is_upload and self.planned:
                fault = self.planned.pop(0)
            self.counts[fault] += 1
            return fault

    def _flip(self, data: bytes, where: range) -> bytes:
        with self._lock:
            place, bit = self._rng.choice(where), self._rng.randrange(8)
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@contextlib.contextmanager
def outage(proxy: FaultyProxy, faults: tuple[str, ...]) -> Iterator[None]:
    """Every request fails inside the block."""
    before = proxy.share, proxy.faults
    proxy.share, proxy.faults = 1.0, faults
    try:
        yield
    finally:
        proxy.share, proxy.faults = before


def _is_download(request: BaseHTTPRequestHandler) -> bool:
    return request.command == "GET" and "alt=media" in request.path


def _content(request: BaseHTTPRequestHandler, body: bytes) -> range:
    """Where in an upload's body the object's own bytes are."""
    if request.command == "PUT":
        return range(len(body))
    if request.command == "POST" and "uploadType=multipart" in request.path:
        described = body.index(b"\r\n\r\n") + 4
        return range(body.index(b"\r\n\r\n", described) + 4, body.rindex(b"\r\n--"))
    return range(0)


def _answer(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    data: bytes,
    of: int | None = None,
    pause_secs: float = 0.0,
) -> None:
    """Sends the answer, or only its first `of` bytes."""
    request.send_response_only(status)
    for name, value in headers:
        if name.lower() != "content-length":
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    shown = data[:of]
    for start in range(0, len(shown), max(1, -(-len(shown) // 4))):
        time.sleep(pause_secs)
        request.wfile.write(shown[start : start + max(1, -(-len(shown) // 4))])
    request.wfile.flush()


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Ends the connection with RST instead of FIN."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.rfile.close()
    request.wfile.close()
    request.connection.close()
