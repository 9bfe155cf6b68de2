"""Track a run with MLflow: parameters, metrics of each epoch, and the report; a server that fails ends no training.

The id of the MLflow run is in the run directory, with the epochs that it has. So a resumed training, and later an
evaluation, go on in the same MLflow run, and what an outage has kept back is sent when the server answers again.
MLflow is imported only when a run is tracked.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from preprocessing import event_log
from preprocessing.errors import StoppedError, UsageError
from preprocessing.storage.atomic import write_atomically
from trainer.runs.directory import EVALUATION, REPORT, TRACKING
from trainer.runs.storage import StorageFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "mlflow:"
EXPERIMENT = "gtzan-cvae"  # unless MLFLOW_EXPERIMENT_NAME names another one
INSTALL = "install it with pip install 'mlflow-skinny>=2.20'"
REMOTE_SCHEMES = ("http", "https")  # of servers, which may be down; another store that fails is wrong usage

Files: TypeAlias = Mapping[
    Path, str | None
]  # local files -> their folders among the artifacts; None: the top

_SETTINGS = {
    # MLflow retries a request for minutes, which would hold up training. An epoch that is not sent is sent later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def parse_target(track: str) -> str:
    """Return the tracking URI of `--track mlflow:URI`, with an absolute path if it is a folder.

    Raises:
        CommandError: It is no such URI, or it has a password, or MLflow is not installed (exit code 2).
    """
    uri = track.removeprefix(PREFIX)
    if not track.startswith(PREFIX) or not uri:
        raise UsageError(f"`track` must be mlflow:URI, such as mlflow:http://localhost:5000, not {track}")
    try:
        location = urlsplit(uri).netloc
    except ValueError as error:
        raise UsageError(f"`track` {track} is no valid URI ({error})") from error
    if "@" in location:
        raise UsageError(
            "`track` must not contain a password, which would be stored in the run: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    try:
        _import_mlflow()
    except ImportError as error:
        raise UsageError(f"`track` needs MLflow: {INSTALL}") from error
    return uri if ":" in uri else Path(uri).resolve().as_uri()


@contextlib.contextmanager
def tracked(uri: str | None, folder: Path, run: str) -> Iterator[Tracker | None]:
    """Track a run for the length of a `with` block, whose end ends the MLflow run.

    Args:
        uri: As returned by `parse_target`; None: the run is not tracked, and the block gets None.
        folder: The run's local directory.
        run: The run, as the user named it.

    Raises:
        CommandError: MLflow cannot use the URI (exit code 2).
    """
    if uri is None:
        yield None
        return
    tracker = Tracker(uri, folder, run)
    try:
        yield tracker
    except BaseException as error:
        tracker.end("KILLED" if isinstance(error, StoppedError | KeyboardInterrupt) else "FAILED")
        raise
    tracker.end("FINISHED")


def add_results(
    run: str,
    files: Files,
    metrics: Mapping[str, float | None],
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add files, metrics and tags to the MLflow run of a run that is tracked; a failure is a warning.

    Args:
        run: The run, local or `gs://`; without `mlflow.json` nothing is done.
        files: Local files.
        metrics: By name; values that are not finite are left out.
        tags: By name.
    """
    content = StorageFolder(run).read(TRACKING)
    if content is None:
        return

    def send() -> None:
        record = json.loads(content)
        client = _import_mlflow().MlflowClient(record["uri"])
        client.log_batch(record["run_id"], metrics=_metrics(metrics), tags=_tags(tags))
        _log_files(client, record["run_id"], files)

    _attempt("the results are not added to the MLflow run", send)


class Tracker:
    """The MLflow run of a training."""

    def __init__(self, uri: str, folder: Path, run: str) -> None:
        self._folder, self._run = folder, run
        self._client: MlflowClient | None = None
        self._uri = uri
        self._rows: list[dict[str, float]] = []
        self._parameters: dict[str, Any] = {}
        self._described: dict[str, str] = {}
        self._is_current = False  # whether the MLflow run exists and says that it is running
        self._is_warned = False
        path = folder / TRACKING
        record = json.loads(path.read_bytes()) if path.exists() else {}
        self._record: dict[str, Any] = record if record.get("uri") == uri else {"uri": uri}
        try:
            self._client = _import_mlflow().MlflowClient(uri)
            if urlsplit(uri).scheme not in REMOTE_SCHEMES:
                self._experiment_id()
        except Exception as error:
            raise UsageError(f"`track`: MLflow cannot use {uri}: {_reason(error)}") from error

    def begin(
        self, rows: Sequence[dict[str, float]], parameters: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Create the MLflow run, or continue it, and send the epochs that it lacks.

        Args:
            rows: The metrics of each epoch so far.
            parameters: The run's settings; they stay as they are when the run is continued.
            tags: By name; those of a continued run are replaced.
        """
        self._rows, self._parameters, self._described = list(rows), dict(parameters), dict(tags)
        self._is_current = False
        self._send()

    def add(self, row: dict[str, float]) -> None:
        """Send the metrics of an epoch, and of earlier ones that could not be sent."""
        self._rows.append(row)
        self._send()

    def end(self, status: str) -> None:
        """End the MLflow run as FINISHED, KILLED or FAILED; if it is finished, add the report and the evaluation."""
        if not self._rows and "run_id" not in self._record:
            return  # the training has ended before it began

        def send() -> None:
            self._catch_up()
            if status == "FINISHED":
                _log_files(self._connected, self._record["run_id"], self._files())
            self._connected.set_terminated(self._record["run_id"], status)

        self._attempt(send)

    @property
    def _connected(self) -> MlflowClient:
        assert self._client is not None
        return self._client

    def _files(self) -> Files:
        evaluation = self._folder / EVALUATION
        return {
            self._folder / REPORT: None,
            **{path: EVALUATION for path in sorted(evaluation.glob("*")) if path.is_file()},
        }

    def _send(self) -> None:
        self._attempt(self._catch_up)

    def _attempt(self, call: Callable[[], None]) -> None:
        """Call, and warn of a failure once until a later call succeeds."""
        message = f"the run cannot be tracked at {self._uri} for now, training goes on"
        is_sent = _attempt(message, call, is_silent=self._is_warned)
        if is_sent and self._is_warned:
            event_log.log_event("tracking_caught_up", "MLflow has all epochs again")
        self._is_warned = not is_sent

    def _catch_up(self) -> None:
        """Bring the MLflow run up to date."""
        if not self._is_current:
            self._open_run()
            self._is_current = True
        for row in self._rows:
            if row["epoch"] > self._record["epochs"]:
                self._connected.log_batch(self._record["run_id"], metrics=_metrics(row, int(row["epoch"])))
                self._save({**self._record, "epochs": int(row["epoch"])})

    def _open_run(self) -> None:
        """Continue the MLflow run of the record, or create one if there is none or it was deleted."""
        run_id = self._record.get("run_id")
        if run_id is not None and self._exists(run_id):
            self._connected.update_run(run_id, status="RUNNING")
        else:
            name = self._run.rstrip("/").rpartition("/")[2]
            run_id = self._connected.create_run(self._experiment_id(), run_name=name).info.run_id
            self._save({"uri": self._uri, "run_id": run_id, "epochs": 0})
            self._connected.log_batch(run_id, params=_params(self._parameters))
        self._connected.log_batch(run_id, tags=_tags({"run": self._run, **self._described}))

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self._connected.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _experiment_id(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._connected.get_experiment_by_name(name)
        return experiment.experiment_id if experiment else self._connected.create_experiment(name)

    def _save(self, record: dict[str, Any]) -> None:
        write_atomically(self._folder / TRACKING, json.dumps(record, indent=2) + "\n")
        self._record = record


def _import_mlflow() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def _attempt(message: str, call: Callable[[], None], is_silent: bool = False) -> bool:
    """Call, and warn if it fails; return whether it succeeded.

    Any exception counts: stores and their clients raise many kinds, and none of them may end a training.
    """
    try:
        call()
    except Exception as error:
        reason = f"MLflow is missing, {INSTALL}" if isinstance(error, ImportError) else _reason(error)
        if not is_silent:
            event_log.log_event("tracking_failed", f"{message} ({reason})", event_log.WARNING)
        return False
    return True


def _log_files(client: MlflowClient, run_id: str, files: Files) -> None:
    for path, folder in files.items():
        client.log_artifact(run_id, str(path), folder)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 500 else f"{text[:500]}..."


def _metrics(values: Mapping[str, Any], step: int = 0) -> list[Any]:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1_000)
    return [
        Metric(name, float(value), now_ms, step)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def _params(values: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, str(value)) for name, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, str(value)) for name, value in values.items()]
