"""A metadata server as on a node of a cluster, which gives out tokens only some seconds after the first request."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT = {
    "email": "trainer@test.iam.gserviceaccount.com",
    "scopes": ["cloud-platform"],
    "aliases": ["default"],
}
ACCOUNTS = "/computeMetadata/v1/instance/service-accounts"
TOKEN = {"access_token": "token", "expires_in": 3_600, "token_type": "Bearer"}


class MetadataServer:
    """Answers with 503 until `late_secs` have passed since the first request, however slow the machine is.

    Use as a context manager: leaving it ends the server.

    Attributes:
        tokens: Number of tokens given out.
        refused: Number of requests that came too early.
    """

    def __init__(self, late_secs: float) -> None:
        self.tokens = self.refused = 0
        self._late_secs = late_secs
        self._ready_at: float | None = None  # not known before the first request
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        # By which Google's libraries find the server, in place of the address of Compute Engine.
        self.environment = {
            "GCE_METADATA_HOST": self.address,
            "GCE_METADATA_IP": self.address,
            "NO_GCE_CHECK": "false",
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> MetadataServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, content, status = request.path.partition("?")[0].rstrip("/"), b"", 200
        if self._ready_at is None:
            self._ready_at = time.monotonic() + self._late_secs
        if time.monotonic() < self._ready_at:
            self.refused += 1
            status = 503
        elif path.endswith("/token"):
            self.tokens += 1
            content = json.dumps(TOKEN).encode()
        elif path.startswith(ACCOUNTS):
            content = json.dumps(ACCOUNT).encode()
        elif path.endswith("/project-id"):
            content = b"test"
        elif path:
            status = 404
        request.send_response(status)
        request.send_header("Metadata-Flavor", "Google")
        request.send_header("Content-Type", "application/json" if content.startswith(b"{") else "text/plain")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
