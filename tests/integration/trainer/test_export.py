"""Exported models, served in a process that cannot import this project, as TensorFlow Serving serves them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.runs.saved_runs import one_signature, save_run
from support.runs.tiny_models import ATTRIBUTES, SAMPLES, make_batch
from support.services import serving

from preprocessing.errors import BAD_DATA, DONE, STOPPED
from trainer.__main__ import main
from trainer.config import MODES
from trainer.generation.load import load
from trainer.runs.storage import GcsPrefix

pytestmark = pytest.mark.long

NAN = float("nan")
OPEN = {"genre": "", **dict.fromkeys(ATTRIBUTES, NAN), "key": ""}
OPEN_PRIOR = {"temperature": 1.0, "guidance": NAN, **OPEN, "samples": 0}


class Exported:
    """An exported model beside the API of its run."""

    def __init__(self, folder, name):
        self.run = save_run(folder / "run", name)
        self.path = folder / "model"
        assert main(["export", "--run", str(self.run), "--output", str(self.path)]) == DONE
        self.api = load(self.run)
        self.metadata = json.loads((self.path / "metadata.json").read_text())

    def request(self, signature, **body):
        return {"model": str(self.path), "signature_name": signature, **body}


@pytest.fixture(scope="module")
def wave(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("wave"), "wave")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("reference"), "reference")


@pytest.fixture(scope="module")
def clips():
    return make_batch(3)[0].numpy()


@pytest.fixture(scope="module")
def respond():
    """Send a request to a process that has TensorFlow but not this project."""
    command = [sys.executable, serving.__file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    ) as process:

        def respond(request):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield respond
        process.stdin.close()


def in_rows(**columns):
    """Columns of a request as its instances."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def assert_equal(response, expected):
    (values,) = response.values()
    np.testing.assert_allclose(np.array(values, np.float32), expected, atol=1e-5, err_msg=str(response)[:500])


def test_new_clips_are_those_of_the_api_whatever_is_specified(wave, respond):
    specified = [
        ({"genre": "rock", "tempo_bpm": 100.0}, NAN),
        ({}, NAN),
        ({"genre": "jazz"}, 2.5),
        ({"loudness_db": -25.0}, 0.0),
        ({"key": "A minor", "beat_clarity": 0.5}, 1.5),
    ]
    rows = [
        {**OPEN_PRIOR, "seed": 5, "index": index, **given, "guidance": guidance}
        for index, (given, guidance) in enumerate(specified)
    ]
    expected = []
    for index, (given, guidance) in enumerate(specified):
        attributes = {name: value for name, value in given.items() if name in ATTRIBUTES}
        arguments = {"genre": given.get("genre"), "attributes": attributes, "key": given.get("key")}
        arguments["guidance"] = None if np.isnan(guidance) else guidance
        expected.append(wave.api.sample(len(specified), 5, **arguments)[index])
    assert_equal(respond(wave.request("sample", instances=rows)), expected)


def test_a_request_has_any_number_of_clips_of_any_length(wave, respond):
    columns = {name: [value] for name, value in OPEN_PRIOR.items()}  # one row stands for all clips
    for count, samples in ((11, 500), (1, 2 * SAMPLES)):
        given = {"seed": [3] * count, "index": [*range(count)], "samples": [samples], "temperature": [0.7]}
        response = respond(wave.request("sample", inputs={**columns, **given}))
        assert_equal(response, wave.api.sample(count, 3, secs=samples / SAMPLES, temperature=0.7))


def test_clips_are_encoded_changed_and_decoded_as_by_the_api(wave, respond, clips):
    genres, audio = ["blues", "rock", "jazz"], clips.tolist()
    columns = {name: [value] * 3 for name, value in OPEN.items()} | {"genre": genres}

    def ask(signature, **given):
        return respond(wave.request(signature, instances=in_rows(**given)))

    reconstruction = wave.api.reconstruct(clips, genres)
    assert_equal(ask("reconstruct", audio=audio, **columns), reconstruction)
    latents = ask("encode", audio=audio, **columns)["predictions"]
    condition = in_rows(**columns, samples=[0] * 3)
    decoded = [{**values, **given} for values, given in zip(latents, condition, strict=True)]
    assert_equal(respond(wave.request("decode", instances=decoded)), reconstruction)
    noise = {"noise_scale": [0.7] * 3, "seed": [2] * 3, "index": [0, 1, 2]}
    assert_equal(ask("vary", audio=audio, **noise, **columns), wave.api.vary(clips, 0.7, 2, genres))
    given = {"genre": ["rock"] * 3, "source_genre": genres, "guidance": [2.0] * 3}
    expected = wave.api.transfer(clips, "rock", genres, 2.0)
    assert_equal(ask("transfer", audio=audio, **given), expected)
    ends = {"start": audio[:1] * 5, "end": audio[1:2] * 5, "position": [0.0, 0.25, 0.5, 0.75, 1.0]}
    given = {"start_genre": ["blues"] * 5, "end_genre": ["rock"] * 5}
    expected = wave.api.interpolate(clips[0], clips[1], 5, ["blues", "rock"])
    assert_equal(ask("interpolate", **ends, **given), expected)
    columns |= {"seed": [4] * 3, "index": [0, 1, 2], "temperature": [0.9] * 3, "guidance": [NAN] * 3}
    expected = wave.api.extend(clips[:, :400], 1.5, 4, genres, temperature=0.9)
    response = ask("extend", audio=clips[:, :400].tolist(), **columns, samples=[1_500] * 3)
    assert_equal(response, expected)


def test_the_reference_model_has_the_signatures_and_inputs_that_it_supports(reference, respond, clips):
    signatures = reference.metadata["signatures"]
    assert list(signatures) == ["sample", "encode", "decode", "reconstruct", "vary", "interpolate"]
    assert list(signatures["sample"]["inputs"]) == ["seed", "index", "temperature"]
    rows = in_rows(seed=[5, 5, 5], index=[0, 1, 2], temperature=[0.8] * 3)
    response = respond(reference.request("sample", instances=rows))
    assert_equal(response, reference.api.sample(3, 5, temperature=0.8))
    rows = in_rows(audio=clips.tolist())
    expected = reference.api.reconstruct(clips)
    assert_equal(respond(reference.request("reconstruct", instances=rows)), expected)
    latents = respond(reference.request("encode", instances=rows))["predictions"]
    assert_equal(respond(reference.request("decode", instances=in_rows(latent=latents))), expected)
    rows = in_rows(start=clips[:1].tolist(), end=clips[1:2].tolist(), position=[0.25])
    response = respond(reference.request("interpolate", instances=rows))
    assert_equal(response, reference.api.interpolate(clips[0], clips[1], 5)[1:2])


def test_the_metadata_describes_the_model_and_its_signatures(wave):
    described = wave.metadata
    assert described["sample_rate_hz"] == described["clip_samples"] == SAMPLES
    assert described["genres"] == ["blues", "jazz", "rock"]
    assert described["attributes"]["tempo_bpm"] == {"mean": 120.0, "std": 20.0, "low": 60.0, "high": 180.0}
    assert described["keys"] == ["C major", "G major", "A minor"]
    assert described["modes"] == list(MODES)
    assert (described["checkpoint"], len(described["checkpoint_sha256"])) == ("step-7", 64)
    assert described["program"].startswith("gtzan-cvae ")
    signatures = tf.saved_model.load(str(wave.path)).signatures
    assert described["signatures"].keys() == signatures.keys()
    for name, signature in signatures.items():
        fields = described["signatures"][name]
        for kind, specs in (
            ("inputs", signature.structured_input_signature[1]),
            ("outputs", signature.structured_outputs),
        ):
            actual = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in specs.items()}
            assert {key: (field["dtype"], field["shape"]) for key, field in fields[kind].items()} == actual


@pytest.mark.parametrize(
    ("signature", "given", "message"),
    [
        ("sample", {"genre": "polka"}, "genre must be one of blues, jazz, rock, or empty"),
        ("sample", {"key": "B major"}, "key must be one of C major, G major, A minor, or empty"),
        ("sample", {"tempo_bpm": 200.0}, "tempo_bpm must be NaN or from 60 to 180"),
        ("sample", {"temperature": NAN}, "temperature must be from 0 to 2"),
        ("sample", {"guidance": -1.0}, "guidance must be NaN or from 0 to 10"),
        ("sample", {"samples": 3}, "clips need at least 32 samples"),
        ("sample", {"seed": 0.5}, "is not of expected type: int32"),
        ("reconstruct", {"audio": [NAN] * SAMPLES}, "clips must be finite"),
        ("extend", {"samples": 400}, "samples must be more than those of the clip"),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(wave, respond, clips, signature, given, message):
    row = {"audio": clips[0, :400].tolist(), "seed": 1, "index": 0, **OPEN_PRIOR, **given}
    names = wave.metadata["signatures"][signature]["inputs"]
    response = respond(wave.request(signature, instances=[{name: row[name] for name in names}]))
    assert message in response["error"]


def test_lengths_that_do_not_match_are_refused(wave, respond):
    rows = [{"seed": 1, "index": index, **OPEN_PRIOR, "samples": 500 + index} for index in range(2)]
    response = respond(wave.request("sample", instances=rows))
    assert "samples must be the same for all clips" in response["error"]
    silence = [[0.0] * SAMPLES]
    rows = in_rows(audio=silence, **{name: [value] for name, value in OPEN.items()})
    (latents,) = respond(wave.request("encode", instances=rows))["predictions"]
    response = respond(wave.request("decode", instances=[{**latents, **OPEN, "samples": 500}]))
    assert "the latents are of clips of another length" in response["error"]


def test_a_champion_in_a_bucket_is_exported_to_a_bucket(reference, storage_server, tmp_path, respond):
    models, output = f"{storage_server}/models", f"{storage_server}/exported/1"
    name = f"{'0' * 12}-{'1' * 12}"
    files = [
        path.relative_to(reference.run).as_posix() for path in reference.run.rglob("*") if path.is_file()
    ]
    GcsPrefix(f"{models}/candidates/{name}").upload(files, reference.run)
    (tmp_path / "champion.json").write_text(json.dumps({"candidate": name}))
    GcsPrefix(models).upload(["champion.json"], tmp_path)
    flags = ["export", "--run", models, "--output", output, "--cache-dir", str(tmp_path / "cache")]
    for _ in range(2):  # the second time over the first
        with one_signature():
            assert main(flags) == DONE
    GcsPrefix(output).download(GcsPrefix(output).list_names(), tmp_path / "model")
    assert json.loads((tmp_path / "model/metadata.json").read_text())["run"] == models
    row = {"seed": 1, "index": 0, "temperature": 1.0}
    request = {"model": str(tmp_path / "model"), "signature_name": "sample", "instances": [row]}
    assert_equal(respond(request), reference.api.sample(1, 1))


def test_an_export_that_cannot_be_made_leaves_no_output(reference, tmp_path, capsys):
    assert (
        main(["export", "--run", str(tmp_path / "nowhere"), "--output", str(tmp_path / "model")]) == BAD_DATA
    )
    assert "has no config.json" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_an_interrupted_export_is_repeated(reference, tmp_path, monkeypatch):
    flags = ["export", "--run", str(reference.run), "--output", str(tmp_path)]
    with monkeypatch.context() as patch, one_signature():
        patch.setattr(Path, "replace", lambda path, target: path.rename(target) and stop_after(target))
        assert main(flags) == STOPPED
    assert not (tmp_path / "saved_model.pb").exists()
    with one_signature():
        assert main(flags) == DONE
    assert (tmp_path / "saved_model.pb").exists()


def stop_after(target):
    if target.name == "metadata.json":
        raise KeyboardInterrupt
