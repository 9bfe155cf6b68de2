import json
import math
import shutil

import numpy as np
import pytest
from support.tiny_corpus import CLIP_SAMPLES, TINY, WAVE, without_figures_and_music, write_clip

from preprocessing.__main__ import main as preprocess
from preprocessing.errors import BAD_DATA, USAGE
from trainer.__main__ import main
from trainer.evaluation import reference_run
from trainer.evaluation.evaluate import markdown, own_metrics
from trainer.evaluation.options import Options
from trainer.evaluation.reference_run import load_reference
from trainer.generation.load import load
from trainer.training.train import train_and_evaluate

pytestmark = pytest.mark.long

FRECHET = "frechet_log-mel"
BASELINE = {"preset": "reference", "sample_clips": 2}


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, given in (("wave", {"preset": "wave", **WAVE}), ("wave-reference", BASELINE)):
        with without_figures_and_music():
            train_and_evaluate(str(dataset), str(folder / name), {**given, "epochs": 1}, 1, folder / "cache")
    return folder / "wave"


@pytest.fixture(scope="module")
def tables(run, dataset):
    assert main(["evaluate", "--run", str(run), "--data", str(dataset), "--count", "4"]) == 0
    return json.loads((run / "evaluation/evaluation.json").read_text())


def test_every_table_has_its_baselines(tables):
    rows = {
        name: {row["name"]: row for row in tables[name]}
        for name in ("reconstruction_quality", "generation_quality")
    }
    assert list(rows["reconstruction_quality"]) == ["reconstruction", "PCA", "reference"]
    assert set(rows["generation_quality"]) == {
        "prior, unconditional", "prior, genres in turn", "oracle", "reference, unconditional",
        "real held-out clips", "real clips with random phases", "noise shaped like the corpus",
    }  # fmt: skip
    model, pca = rows["reconstruction_quality"]["reconstruction"], rows["reconstruction_quality"]["PCA"]
    for figure in ("snr_db", "si_sdr_db", "stft_distance", "log_mel_distance_db", FRECHET):
        assert math.isfinite(model[figure])
        assert math.isfinite(pca[figure])
    floor = rows["generation_quality"]["real held-out clips"]
    assert floor[FRECHET] == min(row[FRECHET] for row in rows["generation_quality"].values())
    assert {"active_units_global", "active_units_sequence", "kl_global_nats_per_clip"} <= set(model)
    kl = model["kl_global_nats_per_clip"] + model["kl_sequence_nats_per_clip"]
    assert model["elbo_nats_per_clip"] == pytest.approx(model["log_likelihood_nats_per_clip"] - kl, rel=1e-4)
    bits = -model["elbo_nats_per_clip"] / CLIP_SAMPLES / math.log(2)
    assert model["bits_per_sample"] == pytest.approx(bits)
    names = [row["name"] for row in tables["musical_statistics"]]
    assert names == [*rows["generation_quality"], "halves of real clips"]
    for row in tables["musical_statistics"]:
        assert row["mean_distance"] >= 0
        assert row["distance_of_flatness_db"] >= 0
        assert row["distance_of_pulse_strength"] is None  # the clips last a second
    (condition_adherence,) = tables["condition_adherence"]
    assert condition_adherence["genres"] == 2
    assert 0 <= condition_adherence["accuracy_of_transferred_clips"] <= 1
    assert -1 <= condition_adherence["rank_correlation_of_loudness_db"] <= 1
    for name in ("key_exact", "key_exact_or_related"):
        assert 0 <= condition_adherence[name] <= 1
        assert 0 <= condition_adherence[f"{name}_by_chance"] <= 1


def test_the_reported_metrics_are_those_of_the_models(tables, run):
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert tables["reconstruction_quality"][0]["snr_db"] == pytest.approx(row["test_snr_db"], abs=1e-3)


def test_the_report_and_the_table_show_them(tables, run):
    page = (run / "report.html").read_text()
    assert "Reconstruction quality" in page
    assert page.count("data:image/png") > 2
    assert "real clips with random phases" in page
    text = (run / "evaluation/evaluation.md").read_text()
    assert text == markdown(tables)
    assert "| stft distance |" in text
    assert {"latents.png", "spectrograms.png", "statistics.png"} <= {
        path.name for path in (run / "evaluation").iterdir()
    }


def test_the_same_seed_gives_the_same_tables(tables, run, dataset, tmp_path):
    flags = ["evaluate", "--run", str(run), "--data", str(dataset), "--output", str(tmp_path), "--count", "4"]
    assert main(flags) == 0
    again = json.loads((tmp_path / "evaluation.json").read_text())
    for name in ("reconstruction_quality", "generation_quality", "musical_statistics", "condition_adherence"):
        for row, other in zip(tables[name], again[name], strict=True):
            assert row.keys() == other.keys()
            for figure in row:
                if figure != "name" and row[figure] is not None and not np.isnan(row[figure]):
                    assert other[figure] == pytest.approx(row[figure], rel=1e-3, abs=1e-3), figure


def test_a_single_test_clip_gives_what_can_be_measured_of_it(run, tmp_path):
    corpus, small = tmp_path / "corpus", tmp_path / "small"
    for number, genre in enumerate(("blues", "blues", "rock")):
        write_clip(corpus / genre / f"{number}.wav", number)
    assert preprocess(["--input", str(corpus), "--output", str(small), *TINY]) == 0
    flags = ["--output", str(tmp_path), "--count", "2", "--baseline-run", f"{run}-reference"]
    assert main(["evaluate", "--run", str(run), "--data", str(small), *flags]) == 0
    tables = json.loads((tmp_path / "evaluation.json").read_text())
    assert tables["about"]["held_out_clips"] == 1
    model = tables["reconstruction_quality"][0]
    assert math.isfinite(model["snr_db"])
    assert model[FRECHET] is None  # a covariance needs two patches
    assert "| frechet log-mel | \N{EM DASH} |" in (tmp_path / "evaluation.md").read_text()


def test_a_baseline_that_would_be_too_large_is_left_out(run, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference_run, "MAX_BASELINE_SAMPLES", CLIP_SAMPLES - 1)
    alone = tmp_path / "alone"
    shutil.copytree(run, alone)
    assert main(["evaluate", "--run", str(alone), "--data", str(dataset), "--count", "2"]) == 0
    assert "the baseline, preset reference, is left out" in capsys.readouterr().out
    tables = json.loads((alone / "evaluation/evaluation.json").read_text())
    assert [row["name"] for row in tables["reconstruction_quality"]] == ["reconstruction", "PCA"]
    assert tables["about"]["caveat"] == ""


def test_a_baseline_whose_training_was_stopped_is_trained_to_its_end(run, dataset, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(reference_run, "train_and_evaluate", lambda *given: begun.append(given[:3]))
    shutil.copytree(run.with_name("wave-reference"), tmp_path / "other-reference")
    (tmp_path / "other-reference/metrics.jsonl").unlink()
    found = [tmp_path / "other", load(str(run)), str(dataset), Options(), tmp_path]
    assert load_reference(str(found[0]), *found[1:]).path == tmp_path / "other-reference"
    assert begun == [(str(dataset), str(tmp_path / "other-reference"), {})]  # with the settings of the run


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--embedding", "{tmp}/nothing"], USAGE, "nothing"),
        (["--count", "1"], USAGE, "--count: must be"),
        (["--run", "{tmp}/nowhere"], BAD_DATA, "has no config.json"),
        (["--baseline-run", "{tmp}/nowhere"], BAD_DATA, "has no config.json"),
        (["--temperature", "3"], USAGE, "--temperature: must be at least 0 and at most 2"),
        (["--data", "{tmp}"], BAD_DATA, "no dataset.json"),
    ],
)
def test_an_error_is_one_sentence_with_an_exit_code(run, dataset, tmp_path, capsys, flags, code, message):
    given = [flag.format(tmp=tmp_path, run=run) for flag in flags]
    assert main(["evaluate", "--run", str(run), "--data", str(dataset), *given]) == code
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_figures_of_the_run_itself_are_named_for_tracking(tables):
    metrics = own_metrics(tables)
    assert metrics["evaluation.snr_db"] == tables["reconstruction_quality"][0]["snr_db"]
    assert metrics["evaluation.unconditional.clips"] == metrics["evaluation.genres_in_turn.clips"] == 4
    assert "evaluation.rank_correlation_of_loudness_db" in metrics
    assert not [name for name in metrics if "real" in name.split(".") or "reference" in name]
