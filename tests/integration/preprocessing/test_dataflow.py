"""The job as Dataflow would run it: its template, made offline, what its shuffles carry, and why it fails."""

import json
import pickle

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner, DataflowRuntimeException
from apitools.base.py.exceptions import HttpForbiddenError
from support.tiny_corpus import CLIP_SAMPLES, TINY

from preprocessing.__main__ import main
from preprocessing.errors import STORAGE_FAILED, USAGE
from preprocessing.options import AudioFormat, Options
from preprocessing.pipeline.candidates import ReadRecordings
from preprocessing.pipeline.plan import make_plan
from preprocessing.pipeline.selection import Selection, WriteSelected
from preprocessing.pipeline.shards import WriteShard
from preprocessing.storage import beam_files

AUDIO = AudioFormat(sample_rate_hz=1_000, clip_secs=1.024, clip_samples=CLIP_SAMPLES)


@pytest.fixture
def template(corpus, storage_server):
    output = f"{storage_server}/dataflow"
    flags = ["--input", str(corpus), "--output", f"{output}/dataset", *TINY]
    flags += ["--runner", "DataflowRunner", "--project", "test", "--region", "europe-west1", "--no_auth"]
    flags += ["--temp_location", f"{output}/tmp", "--template_location", f"{output}/template"]
    assert main(flags) == 0
    made = json.loads(beam_files.read(f"{output}/template"))
    graph = made["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    return beam_runner_api_pb2.Pipeline.FromString(beam_files.read(graph)).components


def test_only_paths_are_grouped_before_audio_is_decoded(template, storage_server):
    parts = {part.unique_name: part for part in template.transforms.values() if not part.subtransforms}
    makers = {output: part for part in parts.values() for output in part.outputs.values()}

    def above(part):
        found = [makers[one] for one in part.inputs.values()]
        return {part.unique_name}.union(*(above(one) for one in found))

    decode = parts["Decode and write shard"]
    grouped = [name for name, part in parts.items() if part.spec.urn == "beam:transform:group_by_key:v1"]
    assert "Group paths by shard" in above(decode)
    assert not [name for name in grouped if name in above(decode) and name != "Group paths by shard"]
    (plan,) = {file.path.rpartition("/")[0] for file in beam_files.find(f"{storage_server}/dataflow/dataset")}
    assert ".template-" in plan


def test_the_steps_after_decoding_exchange_neither_audio_nor_the_descriptions_of_records(corpus, tmp_path):
    plan = make_plan(Options(input=str(corpus), output=str(tmp_path), audio=AUDIO))
    ((number, shard),) = WriteShard(AUDIO, str(tmp_path)).process(
        (plan.source_files[0].shard, plan.source_files)
    )
    assert len(shard.describe().entries) == len(plan.source_files) == 24
    assert len(pickle.dumps(shard)) < 800
    blocks = ReadRecordings(keys=1).process((number, shard))
    assert sum(len(block) for _, block in blocks) < 24 * 110
    selection = Selection(shard, frozenset(), [])
    write = WriteSelected(str(tmp_path), train_shards=8)
    write.start_bundle()
    (final,) = write.process(selection, survivors=[])
    assert len(pickle.dumps(final)) < 1_200


class FailedResult:
    state = "FAILED"

    def job_id(self):
        return "2026-11-28_01_00_00-1"


def refuse(content):
    """Return a runner's `run` that the service answers with an error."""

    def run(*_):
        raise HttpForbiddenError(
            {"status": "403"}, content, "https://dataflow.googleapis.com/v1b3/projects/p"
        )

    return run


def fail(error):
    """Return a runner's `run` whose job ends with an error on the workers."""

    def run(*_):
        raise DataflowRuntimeException(
            f"Dataflow pipeline failed. State: FAILED, Error:\n{error}", FailedResult()
        )

    return run


NO_ACCOUNT = "Current user cannot act as service account gtzan-dataflow@p.iam.gserviceaccount.com."
BODY = json.dumps({"error": {"code": 403, "message": NO_ACCOUNT, "status": "PERMISSION_DENIED"}}).encode()
NO_IMAGE = "Workflow failed. Causes: Error pulling container image"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (refuse(BODY), f"Dataflow refused the job: {NO_ACCOUNT} (PERMISSION_DENIED)"),
        (refuse(b"<html>"), "Dataflow refused the job: HTTP status 403"),
        (
            fail(NO_IMAGE),
            f"ended in state FAILED: {NO_IMAGE}; see https://console.cloud.google.com/dataflow/jobs/r/2026",
        ),
        (fail(None), "the service gives no reason; see https://console"),
    ],
)
def test_a_job_that_cannot_run_says_why(corpus, storage_server, monkeypatch, capsys, run, words):
    monkeypatch.setattr(DataflowRunner, "run_pipeline", run)
    flags = [
        "--input",
        str(corpus),
        "--output",
        f"{storage_server}/failed",
        *TINY,
        "--runner",
        "DataflowRunner",
    ]
    flags += [
        "--project",
        "a-project",
        "--region",
        "r",
        "--temp_location",
        f"{storage_server}/tmp",
        "--no_auth",
    ]
    assert main(flags) == STORAGE_FAILED
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert words in line


def test_flags_that_beam_refuses_are_wrong_usage(corpus, storage_server, capsys):
    flags = [
        "--input",
        str(corpus),
        "--output",
        f"{storage_server}/refused",
        *TINY,
        "--runner",
        "DataflowRunner",
    ]
    flags += [
        "--project",
        "no project",
        "--region",
        "r",
        "--temp_location",
        f"{storage_server}/tmp",
        "--no_auth",
    ]
    assert main(flags) == USAGE
    assert "Invalid Project ID (no project)" in capsys.readouterr().err
