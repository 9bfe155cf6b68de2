"""An emulator of Google Cloud Storage, for tests and for clusters without a bucket.

It extends `gcp-storage-emulator`, which ignores `ifGenerationMatch`, with that precondition: conditional writes
are how two concurrent writers are kept from overwriting each other.

    python -m storage_emulator --folder /data --bucket music
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import HANDLERS, RequestHandler, Server, create_server

IDLE_SECS = 10  # after which a connection is closed: the server handles one at a time, and others wait for it


def start(host: str, port: int, bucket: str, folder: str | None = None) -> Server:
    """Start a server with one bucket and return it; `stop()` ends it.

    Objects are kept in memory, or below `folder`, an absolute path.
    """
    server = create_server(host, port, in_memory=folder is None, default_bucket=bucket, data_dir=folder)
    _check_generations()
    RequestHandler.timeout = IDLE_SECS
    server.start()
    return server


def _check_generations() -> None:
    """Patch the request handlers.

    Writes and deletions fail if the object is not of the generation in `ifGenerationMatch`; downloads return the
    generation that they read.
    """
    upload, resumable_upload = objects._multipart_upload, objects._create_resumable_upload
    download, delete, lock = objects.download, objects.delete, threading.Lock()
    if upload.__name__ == "upload_if_unchanged":  # patched already
        return

    def current_generation(request, storage, name=None):
        try:
            file = storage.get_file_obj(request.params["bucket_name"], name or request.params["object_id"])
            return file["generation"]
        except NotFound:
            return "0"

    def precondition_fails(request, response, storage, name=None):
        expected = request.query.get("ifGenerationMatch", [])
        if all(generation == current_generation(request, storage, name) for generation in expected):
            return False
        response.status = HTTPStatus.PRECONDITION_FAILED
        return True

    def upload_if_unchanged(request, response, storage):
        name = request.query.get("name", [request.data["meta"].get("name")])[0]
        with lock:
            if not precondition_fails(request, response, storage, name):
                upload(request, response, storage)

    def resumable_upload_if_unchanged(request, response, storage):
        name = request.query.get("name", [(request.data or {}).get("name")])[0]
        if not precondition_fails(request, response, storage, name):
            resumable_upload(request, response, storage)

    def delete_if_unchanged(request, response, storage, *args, **kwargs):
        with lock:
            if not precondition_fails(request, response, storage):
                delete(request, response, storage)

    def download_generation(request, response, storage, *args, **kwargs):
        current = current_generation(request, storage)
        if request.query.get("generation", [current]) != [current]:
            response.status = HTTPStatus.NOT_FOUND
            return
        response["X-Goog-Generation"] = current
        download(request, response, storage)

    objects._multipart_upload, objects.download = upload_if_unchanged, download_generation
    objects._create_resumable_upload = resumable_upload_if_unchanged
    patched = {download: download_generation, delete: delete_if_unchanged}
    for _, methods in HANDLERS:
        methods.update({method: patched.get(handler, handler) for method, handler in methods.items()})


def build_parser() -> argparse.ArgumentParser:
    """Describe the flags of `python -m storage_emulator`."""
    parser = argparse.ArgumentParser(prog="python -m storage_emulator", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9023, help="port to listen on (default: %(default)s)")
    parser.add_argument("--folder", help="absolute path of a folder for the objects (default: in memory)")
    parser.add_argument("--bucket", required=True, help="name of the bucket, created if it does not exist")
    return parser


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    flags = build_parser().parse_args()
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(
        signal.SIG_BLOCK, stop_signals
    )  # before the server starts threads, which inherit it
    server = start(flags.host, flags.port, flags.bucket, flags.folder)
    signal.sigwait(stop_signals)
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
