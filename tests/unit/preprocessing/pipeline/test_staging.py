import threading
import time
from pathlib import Path

import pytest

from preprocessing.errors import StoppedError
from preprocessing.pipeline import shard_files
from preprocessing.pipeline.staging import staging_folder


def test_workers_that_go_on_after_the_end_of_a_job_stage_nothing(tmp_path):
    refused = []

    def work(staging):
        for number in range(100_000):
            try:
                shard_files.write_lines(staging, f"train-{number}", [])
            except StoppedError as error:
                refused.append(error)
                return

    with pytest.raises(KeyboardInterrupt), staging_folder(str(tmp_path)) as staging:
        threads = [threading.Thread(target=work, args=(staging,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        while not Path(staging).exists():
            time.sleep(0.001)
        raise KeyboardInterrupt
    for thread in threads:
        thread.join()
    assert len(refused) == len(threads)
    assert list(tmp_path.iterdir()) == []
