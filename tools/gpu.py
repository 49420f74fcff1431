"""Measures this machine's GPU in one go, in under ten minutes: tests, steps, use of the hardware, loader, trainings.

python -m tools.gpu                       measures and writes docs/research/gpu.json and the section of speed.md
python -m tools.gpu --out FILE            measures and writes FILE alone
python -m tools.gpu --device cpu --fast --out FILE   the same with tiny sizes on a CPU, to test the tool

Each part is a process with a limit of its own. A part that fails or exceeds its limit is recorded as such, with what
it printed until then, and the rest goes on; parts for which no time is left are recorded as not started. The file is
written after each part. With --only, the parts of FILE that are not measured stay in it.
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
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
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
"""How the names of the parts that time steps begin."""
MEASURED_ALONE = ("dual", "trs")
"""Methods whose steps are timed in a process of their own; the others share one."""
REAL = ["--backbone", "resnet18", "--input", "256x192", "--batch", "32"]
TINY = ["--backbone", "test_resnet", "--input", "64x64", "--batch", "2", "--repeats", "1", "--precision", "32-true"]
TRAININGS: dict[str, list[str]] = {
    "labels alone, the largest batch": ["paper", "--method", "supervised", "train.batch=auto"],
    "the default": ["method.burn_in=0.4"],
    "one network": ["paper", "--method", "single"],
    "two networks": ["paper", "--method", "dual"],
    "four networks, two levels": ["paper", "--method", "trs"],
}
"""A training of each kind."""
COMPILED = "four networks, two levels"
"""The one whose networks are compiled to CUDA graphs on a GPU."""


@dataclass(frozen=True)
class Part:
    """A process whose standard output is its result, as JSON or in words.

    Attributes:
        name: The name on the page.
        command: The command.
        limit: The limit in seconds.
        timed: Whether it measures time, and therefore runs alone; others run at once.
    """

    name: str
    command: list[str]
    limit: float
    timed: bool = True


@dataclass(frozen=True)
class Result:
    """What a part gave.

    Attributes:
        name: The name of the part.
        command: Its command.
        status: `ok`, `failed`, `late` or `not started`.
        seconds: Its duration.
        result: What it found.
        message: Why it gave no result, or not all of it.
        measured: When, on what and at which commit.
    """

    name: str
    command: str
    status: str
    seconds: float
    result: Any = None
    message: str = ""
    measured: str = ""


def parts(device: str, *, fast: bool) -> list[Part]:
    """Returns the parts of a measurement, the most important first."""
    size = [*(TINY if fast else REAL), "--device", device, "--json"]
    tiny = ["--options", "model.head_channels=8"] if fast else []

    def bench(name: str, *options: str) -> list[str]:
        return [PYTHON, f"bench/{name}.py", *size, *options, *tiny]

    def steps(methods: Sequence[str], limit: float, *options: str) -> Part:
        name = ", ".join([*methods, *options[1:]])
        return Part(f"{STEP}{name}", bench("step", "--method", *methods, *graphs, *options), limit)

    loader = ["--persons", "8", "--steps", "2"] if fast else ["--steps", "20", "--persons", "100"]
    graphs = ["--graphs"] if device == "cuda" else []
    tests = [PYTHON, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    resnet50 = [] if fast else ["--backbone", "resnet50"]
    return [
        Part("tests marked gpu", [*tests, *gpu_tests()], 180, timed=False),
        *(training(name, options, device, fast=fast) for name, options in TRAININGS.items()),
        *(steps([method], 120) for method in MEASURED_ALONE),
        Part("use of the hardware", bench("mfu"), 60),
        Part("training with its loader", bench("end_to_end", *graphs, *loader), 90),
        Part("predictions", bench("predict", *resnet50, *(["--persons", "8"] if fast else [])), 60),
        *([] if fast else [steps(["dual"], 120, *resnet50)]),
        steps([method for method in METHODS if method not in MEASURED_ALONE], 240),
    ]


def gpu_tests() -> list[str]:
    """Returns the files with tests for a GPU; reading all the other ones would take half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "\n@pytest.mark.gpu" in file.read_text(encoding="utf-8")]


def training(name: str, options: Sequence[str], device: str, *, fast: bool) -> Part:
    """Returns a short training on the rendered people."""
    compiled = "on" if device == "cuda" and name == COMPILED else "auto"
    real = [*(["model.backbone=resnet18"] if "paper" in options else []), "--steps", "200"]
    tiny = ["model.backbone=test_resnet", "model.head_channels=8", "input.height=64", "input.width=64"]
    tiny += ["train.batch=4", "train.unlabeled_batch=4", "train.precision=32-true", "--steps", "4"]
    command = [PYTHON, "-m", "semipose", "train", *options, "--data", "people", "--labels", "200"]
    command += tiny if fast else real
    command += ["data.validation=16", "model.weights=none", "--device", device, f"train.compile={compiled}"]
    return Part(f"training: {name}", [*command, "--no-report", "--json", "--out", "{folder}/run"], 180, False)


def run(part: Part, limit: float, where: str) -> Result:
    """Runs a part, in a session of its own that ends with it; `where` is kept with its result."""
    started, command = time.perf_counter(), " ".join(part.command)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable if word == PYTHON else word.replace("{folder}", folder) for word in part.command]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            out, errors = process.communicate(timeout=min(limit, part.limit))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            seconds = round(time.perf_counter() - started, 1)
            return Result(
                part.name, command, "late", seconds, json_lines(out), f"not ready after {seconds:.0f} s", where
            )
    seconds = round(time.perf_counter() - started, 1)
    if process.returncode:
        print(f"{out[-3000:]}\n{errors[-3000:]}", file=sys.stderr, flush=True)
        last = (errors.strip() or out.strip()).rpartition("\n")[2]
        return Result(part.name, command, "failed", seconds, json_lines(out), last, where)
    return Result(part.name, command, "ok", seconds, read_result(out), measured=where)


def json_lines(out: str) -> list[Any]:
    """Returns the JSON of every line that is an object."""
    found = list[Any]()
    for line in out.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return [values for values in found if isinstance(values, dict)]


def read_result(out: str) -> Any:
    """Returns the JSON on standard output, without what only a training's report shows, or else its last line."""
    out = out.replace(f"{ROOT}/", "")
    try:
        found = json.loads(out)
    except ValueError:
        return json_lines(out) or out.strip().rpartition("\n")[2]
    kept = ("scores", "protocol", "best")
    return {key: found[key] for key in kept} if isinstance(found, dict) and "scores" in found else found


def measure(
    chosen: Sequence[Part], seconds: float, out: Path, command: str, where: str, known: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Runs the parts within `seconds` and writes `out` after each.

    Args:
        chosen: The parts, in order. Neighbors that are not timed run at once.
        seconds: The time for all of them.
        out: The file.
        command: The command, for the file.
        where: Date, machine and commit.
        known: Parts of an earlier measurement, kept unless they are measured again.
    """
    started, results = time.perf_counter(), {part["name"]: part for part in known}
    report: dict[str, Any] = {"command": command, "parts": [*known]}

    def note(found: Result) -> None:
        results[found.name] = asdict(found)
        report.update(seconds=round(time.perf_counter() - started, 1), parts=list(results.values()))
        print(f"{found.status:12s} {found.seconds:6.1f} s  {found.name}", flush=True)
        write_text(out, json.dumps(report, indent=1) + "\n")

    for timed, group in groupby(chosen, key=lambda part: part.timed):
        for together in [[part] for part in group] if timed else [list(group)]:
            left = seconds - (time.perf_counter() - started)
            if left < 10:
                for part in together:
                    note(Result(part.name, " ".join(part.command), "not started", 0.0, message="no time was left"))
                continue
            with ThreadPoolExecutor(len(together)) as pool:
                for done in as_completed([pool.submit(run, part, left, where) for part in together]):
                    note(done.result())
    return report


def machine(device: str, commit: str) -> str:
    """Returns the date, the machine and the commit of a measurement."""
    if not commit:
        asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        commit = asked.stdout.strip() or "unknown"
    processor = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    return (
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, {processor}, {available_cpus()} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}, commit {commit}"
    )


def section(report: dict[str, Any]) -> list[str]:
    """Returns the lines of the page about a GPU."""
    parts = report["parts"]
    columns = ("step", "pairs/s", "baseline, pairs/s", "ratio (median over pairs)", "first step")
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|"]
    steps = [part for part in parts if part["name"].startswith(STEP)]
    lines += [step_row(values) for part in steps for values in as_list(part["result"])]
    lines.append("")
    done = [part for part in parts if part["status"] == "ok" and part not in steps]
    lines += [f"* {upper_first(part['name'])}: {found_by(part)}." for part in done]
    missing = [part for part in parts if part["status"] != "ok"]
    lines += [f"* {upper_first(part['name'])}: {part['status']} ({part['message']})." for part in missing]
    return [*lines, "", f"`{report['command']}`: {'; '.join(places(parts))}."]


def as_list(result: Any) -> list[dict[str, Any]]:
    """Returns the results of a part with one or several."""
    return result if isinstance(result, list) else [result] if result else []


def upper_first(text: str) -> str:
    """Returns the text with a capital letter."""
    return text[0].upper() + text[1:]


def places(parts: Iterable[dict[str, Any]]) -> list[str]:
    """Returns when, where and at which commit the parts were measured, with their names if that differs."""
    names: dict[str, list[str]] = {}
    for part in parts:
        if part["measured"]:
            names.setdefault(part["measured"], []).append(part["name"])
    return [*names] if len(names) == 1 else [f"{where} ({', '.join(of)})" for where, of in names.items()]


def step_row(values: dict[str, Any]) -> str:
    """Returns the row of a step."""
    first = values.get("first_step_seconds")
    cells = (
        f"{values['method']}, {values['backbone']}{', CUDA graphs' if values['cuda_graphs'] else ''}",
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
    if "in_16_bit" in values:
        bits = "16" if values["in_16_bit"] else "32"
        return (
            f"{values['persons_per_second']:.0f} persons/s from JPEG crops with {values['backbone']} and the mirror "
            f"image in {bits} bit, {values['ratio']:.2f} times the rate in 32 bit"
        )
    if "scores" in values:
        pck = values["scores"][values["best"]]["PCK@0.2"]
        return f"ran to its end, PCK@0.2 {100 * pck:.1f} on the validation persons"
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
    parser.add_argument("--commit", default="", help="the commit of a copy without its history")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="parts whose name contains this regular expression"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("this machine has no CUDA GPU")
    chosen = [part for part in parts(arguments.device, fast=arguments.fast) if re.search(arguments.only, part.name)]
    command = " ".join(["python -m tools.gpu", *sys.argv[1:]])
    where = machine(arguments.device, arguments.commit)
    keep = bool(arguments.only) and arguments.out.exists()
    known = json.loads(arguments.out.read_text(encoding="utf-8"))["parts"] if keep else []
    report = measure(chosen, 60 * arguments.minutes, arguments.out, command, where, known)
    if arguments.out.resolve() == RESULTS:
        write_text(PAGE, with_section(PAGE.read_text(encoding="utf-8"), report))


if __name__ == "__main__":
    main()
