"""Running of a study: checks of the data, training of missing runs, and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.data.datasets import load_splits
from semipose.errors import ConfigError, DataError
from semipose.models.backbones import build_backbone
from semipose.studies.grid import StudyGrid
from semipose.studies.runner import Outcome, train_runs
from semipose.studies.slurm import train_in_jobs
from semipose.studies.tables import read_record, write_tables


@dataclass(frozen=True)
class StudyResult:
    """The result of a study: the path of its table (Markdown), and the outcome of each run."""

    table: Path
    outcomes: list[Outcome]

    @property
    def failures(self) -> list[str]:
        """The reasons why runs failed."""
        return [outcome.failure for outcome in self.outcomes if outcome.failure is not None]

    def as_dict(self) -> dict[str, Any]:
        """Returns the path of the table and, for each run, the scores as fractions or the reason of the failure."""
        return {"table": str(self.table), "runs": [_as_dict(outcome) for outcome in self.outcomes]}


def run_study(
    grid: StudyGrid,
    out: Path,
    *,
    data: Path | None = None,
    jobs: int | None = None,
    resume: bool = False,
    slurm: Mapping[str, Any] | None = None,
) -> StudyResult:
    """Trains every run of the study that is not finished and writes table.csv and table.md.

    Args:
        grid: The study.
        out: Folder of the study.
        data: Folder of the study's data files.
        jobs: Number of runs trained at the same time; 1 if not given, and with `slurm` as many as it starts.
        resume: Whether to continue the study in `out`.
        slurm: Options of Slurm jobs by submitit's names; each run is then a job of its own.

    Raises:
        DataError: If files of the study are missing or its data cannot be used.
        WeightsError: If pretrained weights of a backbone are missing or can't be fetched.
        ConfigError: If `out` contains a study and `resume` is false.
    """
    grid = grid.on_data(data)
    grid.check(repr(grid.title))
    _check_files(grid, data)
    if (out / "study.json").exists() and not resume:
        raise ConfigError(f"{out} already contains a study; continue it with `resume` or choose another `out`")
    for part in grid.parts().values():  # reports errors in the data before the first run starts
        splits = load_splits(part.run_config(part.runs()[0], data).data)
        if splits.validation is None and splits.test is None:
            raise ConfigError(
                f"study {grid.title!r}: {splits.labeled.source} has no validation or test persons: no run would have "
                "a score; give `data.test`, `data.val` or `data.validation`"
            )
    _load_weights(grid, data)
    if slurm is not None:
        outcomes = train_in_jobs(grid, out, slurm, data=data, jobs=jobs)
    else:
        outcomes = train_runs(grid, out, data=data, jobs=jobs or 1)
    return StudyResult(write_tables(grid, outcomes, out), outcomes)


def _check_files(grid: StudyGrid, data: Path | None) -> None:
    """Raises DataError if files of the study are missing."""
    missing = [path for part in grid.parts().values() for path in part.missing_files(data)]
    if not missing:
        return
    instead = "" if grid.datasets else ", or one with train.json and val.json (COCO keypoint files)"
    sources = dict.fromkeys(part.source for part in grid.parts().values() if part.source and part.missing_files(data))
    raise DataError(
        f"the study needs {', '.join(map(str, missing))}: give the folder that contains them as `data`{instead}"
        + "".join(f"; {source}" for source in sources)
    )


def _load_weights(grid: StudyGrid, data: Path | None) -> None:
    """Loads the weights of every backbone once: missing ones are an error now, and parallel runs download nothing."""
    networks: set[tuple[str, str, int]] = set()
    for part in grid.parts().values():
        for run in part.runs():
            config = part.run_config(run, data)
            model = config.model
            if model.weights != "none":
                networks.add((model.backbone, model.weights, model.stage))
                others = getattr(config.method, "backbones", {}).values()
                networks |= {(name, "auto", model.stage) for name in others if name != model.backbone}
    for name, weights, stage in sorted(networks):
        build_backbone(name, weights, stage, levels=1)


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    run = outcome.run
    dataset = {"dataset": run.dataset} if run.dataset else {}
    content: dict[str, Any] = {**dataset, "row": run.row, "labels": run.labels, "seed": run.seed}
    if outcome.failure is not None:
        return {**content, "failure": outcome.failure}
    record = read_record(run, outcome.folder)
    return {**content, "scores": record.scores, "split": record.split, "seconds": record.seconds}
