"""Wait until all workers of a training are there, before TensorFlow connects them.

TensorFlow waits for a missing worker inside of C++, while it holds Python's lock: it logs nothing, runs no signal
handler, and gives up after an hour. Here, the chief listens at its own address, every other worker connects and says
which one it is, and once all have, the chief tells them to start. Then it frees the address for TensorFlow.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from preprocessing import event_log, progress_file
from preprocessing.errors import StoppedError, UsageError
from trainer.training.workers.cluster import Cluster

EVENT_SECS = 30.0  # between two events about the wait
POLL_SECS = 0.5
ANSWER_SECS = 2.0  # for a connection, and for what is said on it
START = b"start\n"


def meet(cluster: Cluster) -> None:
    """Return when all workers of `cluster` have come here.

    Raises:
        CommandError: This worker's address cannot be used (exit code 2), or after its `peer_timeout_secs` some
            worker has not come (75).
    """
    wait = _Wait(cluster.peer_timeout_secs)
    if cluster.worker == 0:
        _gather(cluster, wait)
    else:
        _report(cluster, wait)


class _Wait:
    """A wait with a deadline, which logs every 30 seconds for whom."""

    def __init__(self, timeout_secs: float) -> None:
        self._timeout_secs = timeout_secs
        self._started_at = self._logged_at = time.monotonic()

    def check(self, missing: list[int]) -> None:
        now = time.monotonic()
        waited_secs, workers = now - self._started_at, ", ".join(map(str, missing))
        if waited_secs >= self._timeout_secs:
            raise StoppedError(
                f"worker {workers} has not come within `peer_timeout_secs` {self._timeout_secs:g}: run the same "
                "command on all workers",
            )
        if now - self._logged_at >= EVENT_SECS:
            self._logged_at = now
            progress_file.touch()  # it has a deadline of its own
            event_log.log_event(
                "waiting_for_workers",
                f"waiting for worker {workers} since {waited_secs:.0f} s",
                event_log.WARNING,
                missing=missing,
                waited_secs=round(waited_secs, 1),
                timeout_secs=self._timeout_secs,
            )


def _gather(cluster: Cluster, wait: _Wait) -> None:
    """Wait for every other worker, then tell all of them to start."""
    others = range(1, len(cluster.addresses))
    greetings = {_greeting(cluster, index): index for index in others}
    present: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(cluster.addresses[0]))
        while missing := [index for index in others if index not in present]:
            wait.check(missing)
            ready, _, _ = select.select([listener, *present.values()], [], [], POLL_SECS)
            for index, connection in list(present.items()):
                if connection in ready:  # a worker says nothing more: it has ended
                    del present[index]
            if listener in ready:
                connection = stack.enter_context(listener.accept()[0])
                worker = greetings.get(_receive(connection))
                if worker is not None:  # otherwise it is none of these workers
                    present[worker] = connection
        for connection in present.values():
            with contextlib.suppress(OSError):  # TensorFlow notices if a worker has ended now
                connection.sendall(START)


def _report(cluster: Cluster, wait: _Wait) -> None:
    """Connect to the chief until it tells this worker to start."""
    host, _, port = cluster.addresses[0].rpartition(":")
    while True:
        wait.check([0])
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), ANSWER_SECS) as chief:
            chief.sendall(_greeting(cluster, cluster.worker))
            while not select.select([chief], [], [], POLL_SECS)[0]:
                wait.check([])
            if _receive(chief) == START:
                return
        time.sleep(POLL_SECS)


def _listen(address: str) -> socket.socket:
    port = int(address.rpartition(":")[2])
    is_dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=is_dual)
    except OSError as error:
        raise UsageError(f"worker 0 cannot listen at {address}: {error.strerror}") from error


def _greeting(cluster: Cluster, index: int) -> bytes:
    return f"gtzan-cvae worker {index} of {len(cluster.addresses)}\n".encode()


def _receive(connection: socket.socket) -> bytes:
    """Return the line that is said on a connection, or less if it ends or nothing more comes in time."""
    connection.settimeout(ANSWER_SECS)
    line = b""
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n") and (part := connection.recv(64)) and len(line) < 64:
            line += part
    return line
