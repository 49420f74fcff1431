"""metrics.jsonl and TensorBoard events."""

import errno
import json
import logging
import sys
from pathlib import Path

import pytest

from semipose.training.loggers import JsonlLogger, MetricsLog


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_step_kind_and_values(tmp_path):
    log = MetricsLog.open(tmp_path)
    log.write(3, "train", {"supervised": 0.5, "lr": 1e-3})
    log.write(3, "warning", {"what": "drift", "text": "…"})
    log.close()
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 3, "kind": "train", "supervised": 0.5, "lr": 1e-3},
        {"step": 3, "kind": "warning", "what": "drift", "text": "…"},
    ]
    assert len(list((tmp_path / "events").iterdir())) == 1


def test_a_resumed_log_continues_after_the_given_size(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = JsonlLogger(path)
    log.write(1, "train", {"loss": 1.0})
    size = log.size
    log.write(2, "train", {"loss": 2.0})
    resumed = JsonlLogger(path, size)
    resumed.write(2, "train", {"loss": 3.0})
    assert [line["loss"] for line in lines(path)] == [1.0, 3.0]
    resumed.truncate(size)
    resumed.write(2, "train", {"loss": 4.0})
    assert [line["loss"] for line in lines(path)] == [1.0, 4.0]


def test_lines_that_a_full_disk_refuses_are_written_later(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    log = JsonlLogger(path)
    log.write(1, "train", {"loss": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        log.write(2, "train", {"loss": 2.0})
        with pytest.raises(OSError, match="No space left"):
            _ = log.size
    log.write(3, "train", {"loss": 3.0})
    assert [line["loss"] for line in lines(path)] == [1.0, 2.0, 3.0]
    assert log.size == path.stat().st_size


def refuse(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_tensorboard_the_log_is_the_file_alone(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # its import then fails
    log = MetricsLog.open(tmp_path)
    log.write(1, "train", {"loss": 1.0})
    log.close()
    assert caplog.text.count("semipose[tensorboard]") == 1
    assert len(lines(tmp_path / "metrics.jsonl")) == 1
    assert not (tmp_path / "events").exists()


def test_processes_other_than_the_main_one_write_nothing():
    log = MetricsLog()
    log.write(1, "train", {"loss": 1.0})
    log.truncate(0)
    log.close()
    assert log.size == 0
