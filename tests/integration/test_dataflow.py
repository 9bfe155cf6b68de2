"""The job as Dataflow would run it: its template, made offline, and what its shuffles carry."""

import json
import pickle

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from support.tiny_corpus import CLIP_SAMPLES, TINY

from preprocessing.__main__ import main
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
