"""A process of a training of two is killed: the other one ends with one line, and the run can be resumed."""

import os
import socket
import subprocess
import sys
import time

import pytest
import yaml

from semipose.trainer import train
from tests.integration.runs import saved_state


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_other_process_ends_and_the_run_is_resumed_with_one(tiny, tmp_path, victim):
    options = {"train.steps": 400, "train.checkpoint_every": 3, "train.batch": 2, "train.unlabeled_batch": 2}
    config, path, run = tiny("mean_teacher", **options), tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in place.items()}}
        command = [sys.executable, "-m", "semipose", "train", str(path), "--out", str(run), "--no-report"]
        processes.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    end = time.monotonic() + 120
    while not (run / "last" / "state.previous.pt").exists() and time.monotonic() < end:
        time.sleep(0.05)
    processes[victim].kill()
    other = processes[1 - victim]
    _, message = other.communicate(timeout=60)
    processes[victim].communicate()
    assert other.returncode == 1, message
    assert "Traceback" not in message
    if victim == 1:  # of several processes the main one prints
        assert message.count("another process of this training ended") == 1, message
    step = saved_state(run).step
    assert step >= 3
    joint = {"train.batch": 4, "train.unlabeled_batch": 4, "train.steps": step + 2}
    train(tiny("mean_teacher", **options | joint), run, resume=True)
    assert saved_state(run).joint_batch == (4, 4)
    assert len(saved_state(run).processes) == 1
