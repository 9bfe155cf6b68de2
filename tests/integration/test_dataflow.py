"""The job as Dataflow would run it: its template, made offline, and what its shuffles carry."""

import json
import pickle

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from support.tiny_corpus import CLIP_SAMPLES, TINY

from preprocessing.__main__ import main
from preprocessing.options import AudioFormat, Options
from preprocessing.pipeline.plan import make_plan
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
    # What is grouped later are the shards' descriptions, for the two lists.
    later = [name for name in grouped if decode.unique_name in above(parts[name])]
    assert len(later) == 2
    assert all(name.startswith("Collect") for name in later)
    (plan,) = {file.path.rpartition("/")[0] for file in beam_files.find(f"{storage_server}/dataflow/dataset")}
    assert ".template-" in plan


def test_the_description_of_a_shard_has_no_audio(corpus, tmp_path):
    plan = make_plan(Options(input=str(corpus), output=str(tmp_path), audio=AUDIO))
    (result,) = WriteShard(AUDIO, str(tmp_path)).process((plan.source_files[0].shard, plan.source_files))
    assert len(result.entries) == len(plan.source_files) == 24
    assert len(pickle.dumps(result)) < 24 * 800 < result.size_bytes / 4
