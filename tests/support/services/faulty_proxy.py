"""A proxy in front of a storage server that injects faults into a fraction of the requests."""

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
    "reset",  # the connection is reset before the server gets the request
    "lost",  # the server handles the request, and the response is lost
    "torn",  # the connection is reset in the middle of the response
    "cut",  # the connection is closed in the middle of the response, as if it were complete
    "silent",  # no response
    "late",  # no response; the server gets the request after the client has given up
    "slow",  # pauses within the response
    "flipped download",  # one bit of an object's content is flipped; TLS protects the metadata
    "flipped upload",
)
# Headers that the proxy sets itself.
OWN_HEADERS = {"connection", "keep-alive", "transfer-encoding", "date", "server"}


class FaultyProxy:
    """A proxy for `upstream`: a fraction `fault_rate` of the requests fails with one of `faults`.

    `fault_rate`, `faults` and `late_secs` may be changed at any time. Uploads fail with the faults in `planned`
    first. `counts` has the number of requests, of those passed on, and of each fault. Faults are drawn with
    `seed`, the rarest so far first; the order of requests from several threads is not reproducible.
    """

    def __init__(
        self, upstream: str, fault_rate: float, faults: tuple[str, ...] = FAULTS, seed: int = 0
    ) -> None:
        self.fault_rate, self.faults = fault_rate, faults
        self.planned: list[str] = []
        self.late_secs = 2.0
        self.counts: Counter[str] = Counter()
        self._upstream = urlsplit(upstream).netloc
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._closed = threading.Event()
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
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        content = _content(request, body)
        fault = self._draw(is_download=_is_download(request), is_upload=content.start < content.stop)
        if fault in STATUSES:
            _respond(request, STATUSES[fault], [], b"{}")
        elif fault == "reset":
            _reset(request)
        elif fault == "silent":
            self._closed.wait(30)
            _reset(request)
        elif fault == "late":
            if not self._closed.wait(self.late_secs):
                self._pass_on(request, body, fault)
        else:
            if fault == "flipped upload":
                body = self._flip_bit(body, content)
            self._pass_on(request, body, fault)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes, fault: str) -> None:
        server = http.client.HTTPConnection(self._upstream, timeout=60)
        server.request(request.command, request.path, body, dict(request.headers))
        response = server.getresponse()
        data = response.read()
        server.close()
        with self._lock:
            self.counts["passed on"] += 1
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in OWN_HEADERS]
        if fault == "lost":
            _reset(request)
        elif fault in ("torn", "cut"):
            if data and _is_download(request):  # a client that resumes must verify the first part, too
                data = self._flip_bit(data, range(-(-len(data) // 2)))
            _respond(request, response.status, headers, data, sent_bytes=len(data) // 2)
            if fault == "torn":
                _reset(request)
            request.close_connection = True
        elif fault == "slow":
            _respond(request, response.status, headers, data, pause_secs=0.05)
        else:
            if fault == "flipped download" and data:
                data = self._flip_bit(data, range(len(data)))
            _respond(request, response.status, headers, data)

    def _draw(self, is_download: bool, is_upload: bool) -> str:
        """Return the fault of the next request, or "none"."""
        applicable = {"flipped download": is_download, "flipped upload": is_upload}
        with self._lock:
            self.counts["requests"] += 1
            faults = [fault for fault in self.faults if applicable.get(fault, True)]
            fails = faults and self._rng.random() < self.fault_rate
            rarest = min((self.counts[fault], self._rng.random(), fault) for fault in faults or FAULTS)
            fault = rarest[-1] if fails else "none"
            if is_upload and self.planned:
                fault = self.planned.pop(0)
            self.counts[fault] += 1
            return fault

    def _flip_bit(self, data: bytes, offsets: range) -> bytes:
        with self._lock:
            offset, bit = self._rng.choice(offsets), self._rng.randrange(8)
        return data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1 :]


@contextlib.contextmanager
def outage(proxy: FaultyProxy, faults: tuple[str, ...]) -> Iterator[None]:
    """Let every request inside the block fail."""
    before = proxy.fault_rate, proxy.faults
    proxy.fault_rate, proxy.faults = 1.0, faults
    try:
        yield
    finally:
        proxy.fault_rate, proxy.faults = before


def _is_download(request: BaseHTTPRequestHandler) -> bool:
    return request.command == "GET" and "alt=media" in request.path


def _content(request: BaseHTTPRequestHandler, body: bytes) -> range:
    """Return the offsets of the object's content in an upload's body; an empty range for other requests."""
    if request.command == "PUT":
        return range(len(body))
    if request.command == "POST" and "uploadType=multipart" in request.path:
        metadata_start = body.index(b"\r\n\r\n") + 4
        return range(body.index(b"\r\n\r\n", metadata_start) + 4, body.rindex(b"\r\n--"))
    return range(0)


def _respond(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    data: bytes,
    sent_bytes: int | None = None,
    pause_secs: float = 0.0,
) -> None:
    """Send the response in four parts, or only the first `sent_bytes` of its body."""
    request.send_response_only(status)
    for name, value in headers:
        if name.lower() != "content-length":
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    body = data[:sent_bytes]
    part_bytes = max(1, -(-len(body) // 4))
    for start in range(0, len(body), part_bytes):
        time.sleep(pause_secs)
        request.wfile.write(body[start : start + part_bytes])
    request.wfile.flush()


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Close the connection with RST instead of FIN."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.rfile.close()
    request.wfile.close()
    request.connection.close()
