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
from gcp_storage_emulator.server import Server, create_server


def start(host: str, port: int, bucket: str, folder: str | None = None) -> Server:
    """A running server with one bucket, in memory or below an absolute folder; `stop()` ends it."""
    server = create_server(host, port, in_memory=folder is None, default_bucket=bucket, data_dir=folder)
    _obey_generations()
    server.start()
    return server


def _obey_generations() -> None:
    upload, lock = objects._multipart_upload, threading.Lock()
    if upload.__name__ == "upload_if_unchanged":
        return

    def upload_if_unchanged(request, response, storage):
        with lock:
            for wanted in request.query.get("ifGenerationMatch", []):
                name = request.query.get("name", [request.data["meta"].get("name")])[0]
                try:
                    there = storage.get_file_obj(request.params["bucket_name"], name)["generation"]
                except NotFound:
                    there = "0"
                if there != wanted:
                    response.status = HTTPStatus.PRECONDITION_FAILED
                    return None
            return upload(request, response, storage)

    objects._multipart_upload = upload_if_unchanged


def build_parser() -> argparse.ArgumentParser:
    """The flags of `python -m storage_emulator`."""
    parser = argparse.ArgumentParser(prog="python -m storage_emulator", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9023, help="(default: %(default)s)")
    parser.add_argument("--folder", help="absolute folder to keep the objects in (default: in memory)")
    parser.add_argument("--bucket", required=True, help="name of the bucket, made if it is not there")
    return parser


def main() -> int:
    flags = build_parser().parse_args()
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # before there are threads: all of them inherit it
    server = start(flags.host, flags.port, flags.bucket, flags.folder)
    signal.sigwait(stop)
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
