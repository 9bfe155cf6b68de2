"""A worker process of Beam that, the first time, dies from SIGKILL after it has written the first record of a shard.

The argument is a file that exists once a worker has died.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from apache_beam.runners.worker import sdk_worker_main

from preprocessing.pipeline.shard_files import ShardWriter

if __name__ == "__main__":
    marker = Path(sys.argv.pop())
    append = ShardWriter.append

    def append_and_die(writer: ShardWriter, framed: bytes) -> None:
        append(writer, framed)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    ShardWriter.append = append_and_die
    sdk_worker_main.main(sys.argv)
