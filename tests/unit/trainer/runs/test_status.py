import json

import pytest

from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.storage import lease
from trainer.__main__ import main
from trainer.runs import rollbacks
from trainer.runs.directory import METRICS, POINTER, ROLLBACKS
from trainer.runs.status import status
from trainer.runs.storage import GcsPrefix

ROWS = [
    {"epoch": n, "test_elbo": elbo, "test_snr_db": 2.0 + n}
    for n, elbo in ((1, -50.0), (2, 1_250.0), (3, 900.0))
]
BACK = rollbacks.Rollback(25, 20, "the loss is no number at step 25")
FILES = {
    "config.json": json.dumps({"preset": "wave", "epochs": 15}),
    METRICS: "".join(f"{json.dumps(row)}\n" for row in ROWS) + '{"epoch": 4, "test_',
    POINTER: 'model_checkpoint_path: "step-30"\n',
    ROLLBACKS: f"{json.dumps(BACK._asdict())}\n" * 2 + '{"step": 3',
}


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_a_runs_state_in_a_few_lines(tmp_path, storage_server, where, capsys):
    run = str(tmp_path) if where == "local" else f"{storage_server}/runs/status"
    for name, content in FILES.items():
        if where == "bucket":
            GcsPrefix(run).write(name, content.encode())
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
    assert main(["status", "--run", run]) == 0
    said = capsys.readouterr().out
    assert "epoch       3 of 15" in said
    assert "best        epoch 2: test ELBO 1,250 nats, SNR 4.00 dB" in said
    assert "last        epoch 3" in said
    assert "checkpoint  step-30, " in said
    assert said.count("went back to step 20") == 2
    assert "at work     nobody" in said
    with lease.acquire(run):
        assert "at work     process" in status(run)


def test_a_run_that_has_just_begun_or_is_none(tmp_path):
    with pytest.raises(CommandError, match="nothing was trained there") as raised:
        status(str(tmp_path))
    assert raised.value.exit_code == BAD_DATA
    (tmp_path / "config.json").write_text(FILES["config.json"])
    assert "checkpoint  none yet" in status(str(tmp_path))
