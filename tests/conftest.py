"""Shared by all tests: a cache of crops and run folders that leave nothing behind, and tiny runs."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import timm  # noqa: F401 - modules that semipose imports are compiled anew by the import hook of the type checks
import torch

import semipose
from semipose.config import RunConfig, load_config
from semipose.metrics import bootstrap

TEST: dict[str, Any] = {
    "data.test": str(Path(__file__).parent / "people_test.json"),
    "data.test_images": str(Path(semipose.__file__).parent / "people" / "images"),
}
"""24 of the 400 embedded test persons."""
NO_TEST: dict[str, Any] = dict.fromkeys(TEST)
"""No test persons: a run on other persons is evaluated on those for validation."""

TINY: dict[str, Any] = {
    "data.train": "people",
    **TEST,
    "data.labels": 24,
    "data.validation": 8,
    "data.include_labeled": False,
    "input.height": 64,
    "input.width": 64,
    "model.backbone": "test_resnet",
    "model.weights": "none",
    "model.head_channels": 8,
    "train.steps": 12,
    "train.batch": 4,
    "train.unlabeled_batch": 4,
    "train.log_every": 2,
    "train.checkpoint_every": 5,
    "train.evaluate_every": 0.5,
    "train.device": "cpu",
}
"""A run of seconds on the rendered people."""


def slow_but(names: Iterable[str], *quick: str) -> list[Any]:
    """Parameters of a test that is slow for all names but a few."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Crops are cut once a session, outside the user's cache; each process has one thread, for two run at once.

    Intervals have few resamples but in tests of metrics, because every training computes them.
    """
    bootstrap.RESAMPLES = 100
    os.environ["SEMIPOSE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def small_people(tmp_path: Path) -> Path:
    """A COCO file of 60 rendered people."""
    from semipose.data.datasets import read_dataset
    from semipose.data.formats.coco_writer import write_coco

    path = tmp_path / "people.json"
    write_coco(read_dataset("people", None).subset(range(60)), path)
    return path


@pytest.fixture
def tiny(small_people: Path) -> Any:
    """Makes tiny configurations: `tiny("trs", **{"train.steps": 3})`."""
    from semipose.data.datasets import PEOPLE

    def make(method: str, **changes: Any) -> RunConfig:
        data = {"data.train": str(small_people), "data.images": str(PEOPLE / "images")}
        return load_config(None, {**TINY, **data, **NO_TEST, "method": method, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_run() -> dict[str, Any]:
    """Overrides for two steps of a tiny network on the rendered people."""
    return {
        "data.train": "people",
        **TEST,
        "data.validation": 8,
        "model.backbone": "test_resnet",
        "model.weights": "none",
        "model.head_channels": 8,
        "input.height": 32,
        "input.width": 32,
        "train.steps": 2,
        "train.batch": 2,
        "train.unlabeled_batch": 2,
        "train.select": "last",
    }


@pytest.fixture
def fp16_scale(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the scale of losses with which trainings in 16-mixed begin: `fp16_scale(4.0)`; torch begins with 65,536."""

    def begin_with(scale: float, growth_interval: int = 2000) -> None:
        def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
            if precision != "16-mixed":
                return None
            return torch.amp.GradScaler(device.type, init_scale=scale, growth_interval=growth_interval)

        monkeypatch.setattr("semipose.training.engine.make_scaler", make_scaler)

    return begin_with


@pytest.fixture
def gpu_memory() -> Callable[[float], AbstractContextManager[None]]:
    """Leaves the process so many MiB more of the GPU's memory than it uses: `with gpu_memory(64): …`."""

    @contextmanager
    def leave(mebibytes: float) -> Iterator[None]:
        torch.cuda.empty_cache()
        most = torch.cuda.memory_reserved() + mebibytes * 2**20
        torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    return leave
