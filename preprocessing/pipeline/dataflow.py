"""Say why a job on Dataflow was refused, or has failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apitools.base.py.exceptions import HttpError

from preprocessing.errors import StorageError


@contextmanager
def dataflow_errors(options: PipelineOptions) -> Iterator[None]:
    """Turn errors of Dataflow's service inside the block into one sentence with the service's reason.

    Raises:
        StorageError: The service refused the job, or the job has failed on its workers.
    """
    try:
        yield
    except HttpError as error:
        raise StorageError(f"Dataflow refused the job: {_reason(error)}") from error
    except Exception as error:
        # Imported only now: local jobs do without this module and its slow imports.
        from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

        if not isinstance(error, DataflowRuntimeException):
            raise
        cloud = options.view_as(GoogleCloudOptions)
        page = (
            f"https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{error.result.job_id()}"
            f"?project={cloud.project}"
        )
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The first line has the state; what follows is the most telling message, which may be a traceback.
        reason = lines[-1] if len(lines) > 1 and lines[-1] != "None" else "the service gives no reason"
        raise StorageError(
            f"the Dataflow job ended in state {error.result.state}: {reason}; see {page}"
        ) from error


def _reason(error: HttpError) -> str:
    """Return the message in the body of a response, or else its status."""
    try:
        body = json.loads(error.content)["error"]
        return f"{body['message']} ({body['status']})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {error.response.get('status')}"
