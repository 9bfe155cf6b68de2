"""Object storage as Google's speaks it, for tests and for clusters without a bucket.

It is `gcp-storage-emulator`, which takes no notice of `ifGenerationMatch`, by which real storage keeps two
writers apart; this one obeys it.

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

SILENT_SECS = 10  # it serves one connection at a time: one that stays silent must not keep the others waiting


def start(host: str, port: int, bucket: str, folder: str | None = None) -> Server:
    """A running server with one bucket, in memory or below an absolute folder; `stop()` ends it."""
    server = create_server(host, port, in_memory=folder is None, default_bucket=bucket, data_dir=folder)
    _obey_generations()
    RequestHandler.timeout = SILENT_SECS
    server.start()
    return server


def _obey_generations() -> None:
    """Writes and deletions of a generation that is not there are refused; downloads name their own."""
    upload, large_upload = objects._multipart_upload, objects._create_resumable_upload
    download, delete, lock = objects.download, objects.delete, threading.Lock()
    if upload.__name__ == "upload_if_unchanged":
        return

    def generation(request, storage, name=None):
        try:
            found = storage.get_file_obj(request.params["bucket_name"], name or request.params["object_id"])
            return found["generation"]
        except NotFound:
            return "0"

    def is_refused(request, response, storage, name=None):
        wanted = request.query.get("ifGenerationMatch", [])
        if all(one == generation(request, storage, name) for one in wanted):
            return False
        response.status = HTTPStatus.PRECONDITION_FAILED
        return True

    def upload_if_unchanged(request, response, storage):
        name = request.query.get("name", [request.data["meta"].get("name")])[0]
        with lock:
            if not is_refused(request, response, storage, name):
                upload(request, response, storage)

    def large_upload_if_unchanged(request, response, storage):
        name = request.query.get("name", [(request.data or {}).get("name")])[0]
        if not is_refused(request, response, storage, name):
            large_upload(request, response, storage)

    def delete_if_unchanged(request, response, storage, *args, **kwargs):
        with lock:
            if not is_refused(request, response, storage):
                delete(request, response, storage)

    def download_generation(request, response, storage, *args, **kwargs):
        there = generation(request, storage)
        if request.query.get("generation", [there]) != [there]:
            response.status = HTTPStatus.NOT_FOUND
            return
        response["X-Goog-Generation"] = there
        download(request, response, storage)

    objects._multipart_upload, objects.download = upload_if_unchanged, download_generation
    objects._create_resumable_upload = large_upload_if_unchanged
    obeying = {download: download_generation, delete: delete_if_unchanged}
    for _, methods in HANDLERS:
        methods.update({method: obeying.get(handler, handler) for method, handler in methods.items()})


def build_parser() -> argparse.ArgumentParser:
    """The flags of `python -m storage_emulator`."""
    parser = argparse.ArgumentParser(prog="python -m storage_emulator", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9023, help="(default: %(default)s)")
    parser.add_argument("--folder", help="absolute folder to keep the objects in (default: in memory)")
    parser.add_argument("--bucket", required=True, help="name of the bucket, made if it is not there")
    return parser


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    flags = build_parser().parse_args()
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # before there are threads: all of them inherit it
    server = start(flags.host, flags.port, flags.bucket, flags.folder)
    signal.sigwait(stop)
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
