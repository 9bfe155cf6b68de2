import json
import shutil

import pytest
from support.runs.run_files import Page, epoch, write_generated, write_metrics, write_run

from preprocessing.errors import BAD_DATA, DONE, USAGE
from preprocessing.html.numbers import MINUS
from trainer.__main__ import main
from trainer.runs.storage import GcsPrefix

EVALUATION = {
    "reconstruction_quality": [{"name": "reconstruction", "snr_db": 6.25}, {"name": "PCA", "snr_db": 4.0}],
    "generation_quality": [
        {"name": "prior, unconditional", "frechet_log-mel": 120.0},
        {"name": "real held-out clips", "frechet_log-mel": 7.0},
    ],
    "musical_statistics": [],
    "condition_adherence": [],
    "about": {"epoch": 2, "split": "test", "held_out_clips": 5, "count": 48, "seed": 0, "data": "data"},
}
CANDIDATE = "0" * 12 + "-" + "1" * 12


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two runs that differ in a setting; the second was evaluated, is longer, and has clips of one more mode."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "one", beta=0.5, seed=0)
    write_generated(root / "one", ("prior", "jazz", "jazz"))
    two = write_run(root / "two", beta=1.0, seed=0, epochs=3)
    write_metrics(two, epoch(1), epoch(2), epoch(3, test_elbo=-9_300.0))
    write_generated(two, ("prior", "rock", "rock"), ("continue", "jazz.00001", "jazz"))
    (two / "evaluation").mkdir()
    (two / "evaluation/evaluation.json").write_text(json.dumps(EVALUATION))
    return root


@pytest.fixture
def runs(source, tmp_path):
    shutil.copytree(source, tmp_path / "runs")
    return tmp_path / "runs"


def cells(table, name):
    """Return the values of a row of the printed table."""
    (line,) = [line for line in table.splitlines() if line.startswith(name)]
    return line.removeprefix(name).split()


def test_the_table_shows_metrics_evaluations_and_only_the_settings_that_differ(source, capsys):
    assert main(["compare", str(source / "one"), str(source / "two")]) == DONE
    table = capsys.readouterr().out
    assert table.splitlines()[0].split() == ["one", "two"]
    assert cells(table, "test ELBO, nats per clip") == [f"{MINUS}9,098", f"{MINUS}9,300"]
    assert cells(table, "test ELBO of the best epoch") == [f"{MINUS}9,098", "in", "epoch", "2"] * 2
    assert cells(table, "snr db") == ["—", "6.25"]
    assert cells(table, "unconditional: frechet log-mel") == ["—", "120"]
    assert cells(table, "program") == ["gtzan-cvae", "0.1.0"] * 2
    assert cells(table, "beta") == ["0.5", "1.0"]
    for same in ("seed", "preset", "dataset digest", "PCA"):
        assert same not in table


def test_the_comparison_as_json_has_everything_that_is_known_of_the_runs(source, capsys):
    assert main(["compare", str(source), "--json"]) == DONE
    comparison = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in comparison["runs"]] == [str(source / name) for name in ("one", "two")]
    assert [len(run["epochs"]) for run in comparison["runs"]] == [2, 3]
    assert comparison["runs"][1]["evaluation"] == EVALUATION
    assert comparison["differences"] == {"epochs": [2, 3], "beta": [0.5, 1.0]}


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_the_page_has_a_curve_and_a_player_of_each_run_side_by_side(
    source, tmp_path, storage_server, where, capsys
):
    folder, target = str(source), tmp_path / "comparison.html"
    if where == "bucket":
        folder = f"{storage_server}/compare/runs"
        files = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        GcsPrefix(folder).upload(files, source)
    assert main(["compare", folder, "--html", str(target)]) == DONE
    page = Page(target)
    curves = page.attributes("svg", "class")
    assert curves.count("run-0") == curves.count("run-1") == 5  # ELBO and its two terms, SNR, throughput
    # Two test clips beside their originals, a clip of the prior of each run, and a continuation of one run.
    assert len(page.attributes("audio", "src")) == 2 * 3 + 2 + 1
    assert page.text.count("one: no such clip") == 1
    for text in (
        "jazz.00001",
        "one, 20.0 dB",
        "one: jazz",
        "two: rock",
        "Continuations",
        "Reconstruction quality",
    ):
        assert text in page.text
    sources = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(value.startswith("data:") for value in sources)


def test_the_page_may_be_written_again_but_replaces_no_other_file(source, tmp_path, storage_server, capsys):
    target = tmp_path / "new/page.html"
    arguments = ["compare", str(source / "one"), "--html"]
    assert main([*arguments, str(target)]) == DONE
    assert main([*arguments, str(target)]) == DONE
    target.write_text("<html>mine</html>")
    assert main([*arguments, str(target)]) == USAGE
    assert "page.html is not a page of this program" in capsys.readouterr().err
    assert target.read_text() == "<html>mine</html>"
    assert main([*arguments, str(tmp_path)]) == USAGE
    assert main([*arguments, f"{storage_server}/compare/page.html"]) == DONE
    assert b"one" in GcsPrefix(f"{storage_server}/compare").read("page.html")


def test_candidates_are_labelled_and_have_the_figures_of_their_promotion_decision(runs, capsys):
    models = runs.parent / "models"
    (models / "candidates").mkdir(parents=True)
    (runs / "one").rename(models / "candidates" / CANDIDATE)
    decision = {"decision": "promoted", "sets": [{"candidate": {"snr_db": 5.5}}]}
    (models / "candidates" / CANDIDATE / "promotion.json").write_text(json.dumps(decision))
    (models / "champion.json").write_text(json.dumps({"candidate": CANDIDATE}))
    assert main(["compare", str(models), str(runs)]) == DONE
    table = capsys.readouterr().out
    assert table.splitlines()[0].split() == [CANDIDATE, "*", "two"]
    assert "* the champion" in table
    assert cells(table, "decision") == ["promoted", "—"]
    assert any(line.startswith("snr db") and "5.5" in line for line in table.splitlines())


def test_runs_of_one_name_are_told_apart_by_their_folders(source, tmp_path, capsys):
    for name in ("first", "second"):
        shutil.copytree(source / "one", tmp_path / name / "run")
    assert main(["compare", str(tmp_path / "first/run"), str(tmp_path / "second/run")]) == DONE
    assert capsys.readouterr().out.splitlines()[0].split() == ["first/run", "second/run"]


def test_a_run_before_its_first_epoch_is_compared_without_clips(runs, tmp_path, capsys):
    shutil.rmtree(runs / "one/samples")
    # A killed process leaves an incomplete line, and samples of an epoch that has no metrics yet.
    (runs / "one/metrics.jsonl").write_text('{"epoch": 1, "test_')
    (runs / "two/samples/epoch-0004").mkdir()
    assert main(["compare", str(runs), "--html", str(tmp_path / "page.html")]) == DONE
    assert cells(capsys.readouterr().out, "test SNR, dB") == ["—", "3.25"]
    page = Page(tmp_path / "page.html")
    assert "no clips" in page.text
    assert len(page.attributes("audio", "src")) == 2 * 2 + 2


def test_a_folder_without_runs_and_a_corrupt_run_are_errors(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty")]) == BAD_DATA
    (runs / "two/evaluation/evaluation.json").write_text("{")
    assert main(["compare", str(runs)]) == BAD_DATA
    assert "evaluation.json is corrupt" in capsys.readouterr().err
