"""Measures this machine's GPU in one go, in under ten minutes: tests, steps, use of the hardware, loader, trainings.

python -m tools.gpu                       measures and writes docs/research/gpu.json and the section of speed.md
python -m tools.gpu --out FILE            measures and writes FILE alone
python -m tools.gpu --device cpu --fast --out FILE   the same with tiny sizes on a CPU, to test the tool

Each part is a process with a limit of its own. A part that fails or exceeds its limit is recorded as such, and the rest
goes on; parts for which no time is left are recorded as not started. The file is written after each part.
"""

import argparse
import datetime
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from semipose.methods import METHODS
from semipose.utils.cpu import available_cpus
from semipose.utils.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "research" / "gpu.json"
PAGE = ROOT / "docs" / "research" / "speed.md"
MARK = "<!-- written by python -m tools.gpu -->"
PYTHON = "python"
"""Stands for this interpreter in the commands."""
STEP = "step of "
"""How the names of the parts that time a step begin."""
REAL = ["--backbone", "resnet18", "--input", "256x192", "--batch", "32"]
TINY = ["--backbone", "test_resnet", "--input", "64x64", "--batch", "2", "--repeats", "1", "--precision", "32-true"]
TRAININGS: dict[str, list[str]] = {
    "labels alone": ["--method", "supervised"],
    "one student, averaged teacher": ["--method", "late_teacher", "method.burn_in=0.4"],
    "two networks": ["--method", "dual"],
    "four networks, two levels": ["--method", "trs"],
}
"""A training of each kind."""


@dataclass(frozen=True)
class Part:
    """A process whose standard output is its result, as JSON or in words, and its limit in seconds."""

    name: str
    command: list[str]
    limit: float


@dataclass(frozen=True)
class Result:
    """What a part gave: `ok`, `failed`, `late` or `not started`, with its result or the last line of its errors."""

    name: str
    command: str
    status: str
    seconds: float
    result: Any = None
    message: str = ""


def parts(device: str, *, fast: bool) -> list[Part]:
    """Returns the parts of a measurement, the most important first."""
    size = [*(TINY if fast else REAL), "--device", device, "--json"]
    tiny = ["--options", "model.head_channels=8"] if fast else []

    def bench(name: str, *options: str) -> list[str]:
        return [PYTHON, f"bench/{name}.py", *size, *options, *tiny]

    def steps(method: str, limit: float, *options: str) -> list[Part]:
        eager = Part(f"{STEP}{method}", bench("step", "--method", method, *options), limit / 2)
        graphs = Part(f"{eager.name}, CUDA graphs", [*eager.command, "--graphs"], limit)
        return [eager, graphs] if device == "cuda" else [eager]

    loader = ["--persons", "8", "--steps", "2"] if fast else ["--steps", "40"]
    tests = [PYTHON, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    loaders = [
        Part("training with its loader", bench("end_to_end", *loader), 60),
        Part("training with its loader, CUDA graphs", bench("end_to_end", "--graphs", *loader), 90),
    ]
    others = [method for method in METHODS if method not in ("dual", "trs")]
    return [
        Part("tests marked gpu", [*tests, *(["tests/training/test_compile.py"] if fast else [])], 150),
        *steps("dual", 120),
        *steps("trs", 120),
        Part("use of the hardware", bench("mfu"), 60),
        *loaders[: 2 if device == "cuda" else 1],
        *(training(name, options, device, fast=fast) for name, options in TRAININGS.items()),
        *([] if fast else steps("dual", 90, "--backbone", "resnet50")),
        *(part for method in others for part in steps(method, 60)),
    ]


def training(name: str, options: Sequence[str], device: str, *, fast: bool) -> Part:
    """Returns a short training on the embedded people; the last kind is compiled on a GPU."""
    compiled = "on" if device == "cuda" and name == list(TRAININGS)[-1] else "auto"
    real = ["model.backbone=resnet18", "--steps", "200"]
    tiny = ["model.backbone=test_resnet", "model.head_channels=8", "input.height=64", "input.width=64"]
    tiny += ["train.batch=4", "train.unlabeled_batch=4", "train.precision=32-true", "--steps", "4"]
    command = [PYTHON, "-m", "semipose", "train", "paper", "--data", "people", "--labels", "200", *options]
    command += tiny if fast else real
    command += ["data.validation=16", "model.weights=none", "--device", device, f"train.compile={compiled}"]
    return Part(f"training: {name}", [*command, "--no-report", "--json", "--out", "{folder}/run"], 90)


def run(part: Part, limit: float) -> Result:
    """Runs a part, in a session of its own that ends with it."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable if word == PYTHON else word.replace("{folder}", folder) for word in part.command]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            out, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Result(part.name, " ".join(part.command), "late", limit, message=f"not ready after {limit:.0f} s")
    seconds, lines = round(time.perf_counter() - started, 1), (errors.strip() or out.strip()).splitlines()
    if process.returncode:
        return Result(part.name, " ".join(part.command), "failed", seconds, message=lines[-1] if lines else "")
    return Result(part.name, " ".join(part.command), "ok", seconds, read_result(out))


def read_result(out: str) -> Any:
    """Returns the JSON on standard output, without what only a training's report shows, or else its last line."""
    try:
        found = json.loads(out)
    except ValueError:
        return out.strip().rpartition("\n")[2]
    kept = ("scores", "protocol", "best")
    return {key: found[key] for key in kept} if isinstance(found, dict) and "scores" in found else found


def measure(chosen: Sequence[Part], seconds: float, out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Runs the parts within `seconds` and writes `out` after each.

    Args:
        chosen: The parts, in order.
        seconds: The time for all of them.
        out: The file.
        facts: What is known of the machine.
    """
    started, results = time.perf_counter(), list[Result]()
    for part in chosen:
        left = seconds - (time.perf_counter() - started)
        if left < min(10, part.limit):
            results.append(Result(part.name, " ".join(part.command), "not started", 0.0, message="no time was left"))
        else:
            results.append(run(part, min(part.limit, left)))
        print(f"{results[-1].status:12s} {results[-1].seconds:6.1f} s  {part.name}", flush=True)
        report = {**facts, "seconds": round(time.perf_counter() - started, 1), "parts": list(map(asdict, results))}
        write_text(out, json.dumps(report, indent=1) + "\n")
    return report


def machine(device: str) -> dict[str, Any]:
    """Returns the date, the commit and the machine of a measurement."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    version = torch.__version__
    processor = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "hardware": f"{processor}, {available_cpus()} cores, Python {platform.python_version()}, torch {version}",
    }


def section(report: dict[str, Any]) -> list[str]:
    """Returns the lines of the page about a GPU."""
    done = [(part["name"], part) for part in report["parts"] if part["status"] == "ok"]
    columns = ("step", "pairs/s", "baseline, pairs/s", "ratio (median over pairs)", "first step")
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|"]
    lines += [step_row(name.removeprefix(STEP), part["result"]) for name, part in done if name.startswith(STEP)]
    lines.append("")
    lines += [f"* {name[0].upper()}{name[1:]}: {found_by(part)}." for name, part in done if not name.startswith(STEP)]
    lines += [
        f"* {part['name'][0].upper()}{part['name'][1:]}: {part['status']} ({part['message']})."
        for part in report["parts"]
        if part["status"] != "ok"
    ]
    return [*lines, "", f"{report['date']}, {report['hardware']}, commit {report['commit']}: `{report['command']}`."]


def step_row(name: str, values: dict[str, Any]) -> str:
    """Returns the row of a step."""
    first = values.get("first_step_seconds")
    cells = (
        f"{name}, {values['backbone']}",
        f"{values['pairs_per_second']:.0f}",
        f"{values['baseline_pairs_per_second']:.0f}",
        f"{values['ratio']:.1f}",
        "–" if first is None else f"{first:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def found_by(part: dict[str, Any]) -> str:
    """Returns what another part found, in words."""
    values = part["result"]
    if "share_of_ceiling" in values:
        return (
            f"a Dual step of {values['backbone']}, batch {values['batch']}, is "
            f"{100 * values['share_of_ceiling']:.0f} % of plain training of the network, {values['step_tflops']:.0f} "
            f"TFLOP/s; a large matrix product {values['product_tflops']:.0f}, a large convolution "
            f"{values['convolution_tflops']:.0f} TFLOP/s"
        )
    if "loader_pairs_per_second" in values:
        return (
            f"{100 * values['ratio']:.0f} % of the steps with ready batches, {values['pairs_per_second']:.0f} pairs/s; "
            f"the loader alone gives {values['loader_pairs_per_second']:.0f} pairs/s from {values['crops']} crops"
        )
    if "scores" in values:
        pck = values["scores"][values["best"]]["PCK@0.2"]
        return f"{part['seconds']:.0f} s with start and evaluations, PCK@0.2 {100 * pck:.1f}"
    return str(values)


def with_section(text: str, report: dict[str, Any]) -> str:
    """Returns the page with a new section between its two marks."""
    before, _, rest = text.partition(MARK)
    after = rest.partition(MARK)[2]
    return before + "\n".join([MARK, "", *section(report), "", MARK]) + after


def main() -> None:
    """Measures, writes the file and, if it is that of the page, the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--fast", action="store_true", help="tiny sizes")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="parts whose name contains this regular expression"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("this machine has no CUDA GPU")
    chosen = [part for part in parts(arguments.device, fast=arguments.fast) if re.search(arguments.only, part.name)]
    command = " ".join(["python -m tools.gpu", *sys.argv[1:]])
    facts = {**machine(arguments.device), "command": command}
    report = measure(chosen, 60 * arguments.minutes, arguments.out, facts)
    if arguments.out.resolve() == RESULTS:
        write_text(PAGE, with_section(PAGE.read_text(encoding="utf-8"), report))


if __name__ == "__main__":
    main()
