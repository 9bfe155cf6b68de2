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
ROLLBACK = rollbacks.Rollback(25, 20, "the loss is not finite at step 25")
FILES = {
    "config.json": json.dumps({"preset": "wave", "epochs": 15}),
    METRICS: "".join(f"{json.dumps(row)}\n" for row in ROWS) + '{"epoch": 4, "test_',
    POINTER: 'model_checkpoint_path: "step-30"\n',
    ROLLBACKS: f"{json.dumps(ROLLBACK._asdict())}\n" * 2 + '{"step": 3',
}


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_status_summarizes_a_run(tmp_path, storage_server, where, capsys):
    run = str(tmp_path) if where == "local" else f"{storage_server}/runs/status"
    for name, content in FILES.items():
        if where == "bucket":
            GcsPrefix(run).write(name, content.encode())
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
    assert main(["status", "--run", run]) == 0
    output = capsys.readouterr().out
    assert "epoch       3 of 15" in output
    assert "best        epoch 2: test ELBO 1,250 nats, SNR 4.00 dB" in output
    assert "last        epoch 3" in output
    assert "checkpoint  step-30, " in output
    assert output.count("was rolled back to step 20") == 2
    assert "used by     nobody" in output
    with lease.acquire(run):
        assert "used by     process" in status(run)


def test_status_of_a_new_run_and_of_a_missing_one(tmp_path):
    with pytest.raises(CommandError, match="nothing was trained there") as raised:
        status(str(tmp_path))
    assert raised.value.exit_code == BAD_DATA
    (tmp_path / "config.json").write_text(FILES["config.json"])
    assert "checkpoint  none yet" in status(str(tmp_path))
