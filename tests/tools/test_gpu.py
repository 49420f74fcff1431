"""Measuring a GPU in one go: parts that fail or are late, the file, the page."""

import json
import sys
import time
from dataclasses import replace

import pytest

from semipose.methods import METHODS
from tools import gpu
from tools.gpu import (
    COMPILED,
    MARK,
    PAGE,
    PYTHON,
    RESULTS,
    STEP,
    Part,
    measure,
    parts,
    places,
    run,
    section,
    with_section,
)


def python(code: str, limit: float = 60) -> Part:
    return Part(code, [PYTHON, "-c", code], limit)


def test_the_result_of_a_part_is_its_json_or_its_last_line():
    assert run(python("print('{\"ratio\": 2}')"), 60, "here").result == {"ratio": 2}
    assert run(python("print('{\\n\"ratio\": 2\\n}')"), 60, "here").result == {"ratio": 2}
    assert run(python('print(\'{"a": 1}\\n{"a": 2}\')'), 60, "here").result == [{"a": 1}, {"a": 2}]
    assert run(python("print('..')\nprint('2 passed')"), 60, "here").result == "2 passed"
    assert run(python(f"print({str(RESULTS)!r})"), 60, "here").result == "docs/research/gpu.json"
    found = run(python('print(\'{"scores": {}, "protocol": "", "data": 1, "best": null}\')'), 60, "here")
    assert (found.status, found.result, found.measured) == ("ok", {"scores": {}, "protocol": "", "best": None}, "here")


def test_parts_that_fail_or_are_late_are_recorded_and_the_rest_goes_on(tmp_path):
    """The late one starts a process of its own, which must end as well."""
    child = f"open({str(tmp_path / 'late')!r}, 'w') if not __import__('time').sleep(4) else 0"
    late = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    failing = "print('{\"step\": 1}')\nraise SystemExit('no memory')"
    chosen = [python(failing), python(late, 1), python("print(7)")]
    started = time.perf_counter()
    report = measure(chosen, 100, tmp_path / "gpu.json", "make gpu", "here")
    assert [part["status"] for part in report["parts"]] == ["failed", "late", "ok"]
    assert [part["message"] for part in report["parts"]] == ["no memory", "not ready after 1 s", ""]
    assert [part["result"] for part in report["parts"]] == [[{"step": 1}], [], 7]
    assert json.loads((tmp_path / "gpu.json").read_text()) == report
    time.sleep(max(0.0, 6 - (time.perf_counter() - started)))
    assert not (tmp_path / "late").exists()


def test_parts_that_are_not_timed_run_at_once(tmp_path):
    """Each waits for the file of the other."""
    wait = "import pathlib, time\npathlib.Path({0!r}).touch()\nwhile not pathlib.Path({1!r}).exists(): time.sleep(.05)"
    files = [str(tmp_path / "a"), str(tmp_path / "b")]
    chosen = [replace(python(wait.format(*names)), timed=False) for names in (files, files[::-1])]
    report = measure(chosen, 60, tmp_path / "gpu.json", "make gpu", "here")
    assert [part["status"] for part in report["parts"]] == ["ok", "ok"]


def test_parts_for_which_no_time_is_left_are_not_started(tmp_path):
    report = measure([python("print(1)"), python("print(2)")], 0.0, tmp_path / "gpu.json", "make gpu", "here")
    assert [part["status"] for part in report["parts"]] == ["not started"] * 2


def test_known_parts_stay_unless_they_are_measured_again(tmp_path):
    first = measure([python("print(1)"), python("print(2)")], 60, tmp_path / "gpu.json", "make gpu", "there")
    again = measure([python("print(2)")], 60, tmp_path / "gpu.json", "make gpu", "here", first["parts"])
    assert [(part["result"], part["measured"]) for part in again["parts"]] == [(1, "there"), (2, "here")]


def test_a_gpu_runs_every_method_eager_and_with_graphs():
    chosen = parts("cuda", fast=False)
    timed = [part.command for part in chosen if part.name.startswith(STEP)]
    assert {*METHODS} <= {word for command in timed for word in command}
    assert all("--graphs" in command for command in timed)
    assert len({part.name for part in chosen}) == len(chosen)
    assert chosen[0].name == "tests marked gpu"
    assert "tests/integration/test_resume.py" in chosen[0].command
    assert not any("--graphs" in part.command for part in parts("cpu", fast=True))
    assert [part.name for part in chosen if "train.compile=on" in part.command] == [f"training: {COMPILED}"]


def test_the_page_is_made_of_the_file():
    text = PAGE.read_text(encoding="utf-8")
    assert with_section(text, json.loads(RESULTS.read_text())) == text
    assert text.count(MARK) == 2


def test_the_section_has_a_row_for_each_step_and_says_what_is_missing():
    steps = {"method": "dual", "backbone": "resnet18", "cuda_graphs": False, "pairs_per_second": 659.4}
    steps |= {"baseline_pairs_per_second": 98.1, "ratio": 6.72, "first_step_seconds": 61.4}
    loader = {"ratio": 0.961, "pairs_per_second": 900.2, "loader_pairs_per_second": 4000.0, "crops": "jpeg"}
    predictions = {"in_16_bit": True, "persons_per_second": 3000.2, "ratio": 1.82, "backbone": "resnet50"}
    done = {"status": "ok", "seconds": 41.3, "message": "", "measured": "2027-01-01, a GPU, commit abc"}
    report = {"command": "python -m tools.gpu", "parts": [
        {**done, "name": "step of dual", "result": steps},
        {**done, "name": "step of others, CUDA graphs", "result": [
            {**steps, "method": "single"}, {**steps, "method": "trs", "cuda_graphs": True, "first_step_seconds": None}
        ]},
        {**done, "name": "training with its loader", "result": loader},
        {**done, "name": "predictions", "result": predictions},
        {**done, "name": "training: two networks", "result": {"scores": {"f1": {"PCK@0.2": 0.391}}, "best": "f1"}},
        {**done, "name": "step of trs", "status": "late", "result": [], "message": "not ready after 60 s"},
    ]}  # fmt: skip
    assert section(report)[2:] == [
        "| dual, resnet18 | 659 | 98 | 6.7 | 61 s |",
        "| single, resnet18 | 659 | 98 | 6.7 | 61 s |",
        "| trs, resnet18, CUDA graphs | 659 | 98 | 6.7 | – |",
        "",
        "* Training with its loader: 96 % of the steps with ready batches, 900 pairs/s; the loader alone gives 4000 "
        "pairs/s from jpeg crops.",
        "* Predictions: 3000 persons/s from JPEG crops with resnet50 and the mirror image in 16 bit, 1.82 times the "
        "rate in 32 bit.",
        "* Training: two networks: ran to its end, PCK@0.2 39.1 on the validation persons.",
        "* Step of trs: late (not ready after 60 s).",
        "",
        "`python -m tools.gpu`: 2027-01-01, a GPU, commit abc.",
    ]


def test_parts_of_several_measurements_say_which_is_which():
    found = [{"name": "one", "measured": "today"}, {"name": "two", "measured": "before"}, {"name": "x", "measured": ""}]
    assert places(found) == ["today (one)", "before (two)"]


@pytest.mark.slow
def test_a_dry_run_on_a_cpu_writes_one_file(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    chosen = "step of dual|with its loader|training: labels"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--fast", "--only", chosen, "--out", str(out)])
    gpu.main()
    report = json.loads(out.read_text())
    assert [part["status"] for part in report["parts"]] == ["ok"] * 3, report
    assert section(report)
