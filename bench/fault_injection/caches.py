"""One crop cache and several processes: concurrent builders, killed builders, readers while it is removed and rebuilt.

There is no worker process to kill besides: crops are cut and loaded by threads of the training's own process.
"""

import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from semipose.data import crop_cache
from semipose.data.crop_cache import open_crop_cache
from semipose.data.crops import CropGeometry
from semipose.data.datasets import read_dataset
from semipose.structures.instances import PoseDataset

PERSONS = 40
GEOMETRY = CropGeometry((64, 64))
HANG = 60.0
"""Seconds after which a process counts as hung."""


def run(count: int, seed: int) -> dict[str, Any]:
    """`count` rounds of each kind; what was lost. This process itself cuts nothing, so that it may fork."""
    chance = random.Random(seed)
    persons = read_dataset("people", None).subset(range(PERSONS))
    found: dict[str, Any] = {"rounds": count, "built": 0, "kills": 0, "while_building": 0, "read": 0, "bad": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["bad"] += _ended(_child(lambda: _reference(persons, folder)), "reference")
        if found["bad"]:
            return found
        usual = float((folder / "seconds").read_text())
        for n in range(count):
            for kind in (_builders, _killed, _readers):
                cache = folder / f"{kind.__name__}{n}"
                problems = kind(persons, cache, folder, usual, chance, found)
                found["bad"] += [f"{kind.__name__[1:]}, round {n}: {problem}" for problem in problems]
                shutil.rmtree(cache, ignore_errors=True)
    found["bad"] = found["bad"][:20]
    return found


def _builders(
    persons: PoseDataset, cache: Path, folder: Path, usual: float, chance: random.Random, found: dict[str, Any]
) -> list[str]:
    """Two to four processes make one cache at once; in every second round where the file system has no locks."""
    unlocked = chance.random() < 0.5
    starts = [chance.uniform(0, usual) for _ in range(chance.randint(2, 4))]
    pids = [_child(lambda start=start: _build(persons, cache, folder, start, unlocked)) for start in starts]  # type: ignore[misc]
    found["built"] += len(pids)
    return [problem for pid in pids for problem in _ended(pid, "a builder")] + _difference(cache, folder)


def _killed(
    persons: PoseDataset, cache: Path, folder: Path, usual: float, chance: random.Random, found: dict[str, Any]
) -> list[str]:
    """SIGKILL of a builder, wherever it is; the next one makes the cache and leaves no unfinished file."""
    pid = _child(lambda: _build(persons, cache, folder, 0, False))
    time.sleep(chance.uniform(0, 1.2 * usual))
    os.kill(pid, signal.SIGKILL)
    found["kills"] += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    found["while_building"] += bool(list(cache.glob("crops/.*.crops")))
    return _ended(_child(lambda: _build(persons, cache, folder, 0, False)), "the next builder") + _difference(
        cache, folder
    )


def _readers(
    persons: PoseDataset, cache: Path, folder: Path, usual: float, chance: random.Random, found: dict[str, Any]
) -> list[str]:
    """Two processes open the cache and read from it while it is removed, cut off and rebuilt under their hands."""
    stop, seeds = folder / "stop", [chance.getrandbits(32) for _ in range(2)]
    stop.unlink(missing_ok=True)
    pids = [_child(lambda seed=seed: _read(persons, cache, folder, stop, seed)) for seed in seeds]  # type: ignore[misc]
    for _ in range(4):
        time.sleep(chance.uniform(0, 2 * usual))
        _invalidate(cache, chance)
    stop.touch()
    problems = [problem for pid in pids for problem in _ended(pid, "a reader")]
    for seed in seeds:
        with suppress(OSError):
            found["read"] += int((folder / f"read{seed}").read_text())
    return problems + _ended(_child(lambda: _build(persons, cache, folder, 0, False)), "the last builder")


def _invalidate(cache: Path, chance: random.Random) -> None:
    """Removes the file or the whole cache, or cuts the start or the end of the file off."""
    act = chance.randrange(4)
    for path in cache.glob("crops/[!.]*.crops"):
        with suppress(OSError):
            if act == 0:
                path.unlink()
            elif act < 3:
                content, shorter = path.read_bytes(), path.with_name("shorter")
                half = len(content) // 2
                shorter.write_bytes(content[:half] if act == 1 else content[half:])
                shorter.replace(path)
    if act == 3:
        shutil.rmtree(cache / "crops", ignore_errors=True)


def _reference(persons: PoseDataset, folder: Path) -> None:
    """The crops as one undisturbed process makes them."""
    started = time.perf_counter()
    store = open_crop_cache(persons, GEOMETRY, cache=folder / "reference")
    (folder / "seconds").write_text(str(time.perf_counter() - started))
    sums = [hashlib.sha256(store.crop(i).tobytes()).hexdigest() for i in range(len(persons))]
    (folder / "sums").write_text("\n".join(sums))


def _build(persons: PoseDataset, cache: Path, folder: Path, start: float, unlocked: bool) -> None:
    time.sleep(start)
    if unlocked:
        crop_cache._lock = _no_lock  # type: ignore[assignment]
    store = open_crop_cache(persons, GEOMETRY, cache=cache)
    known = (folder / "sums").read_text().split()
    assert len(store.dataset) == len(known), "persons are missing"
    for i, expected in enumerate(known):
        assert hashlib.sha256(store.crop(i).tobytes()).hexdigest() == expected, f"another crop {i}"


def _read(persons: PoseDataset, cache: Path, folder: Path, stop: Path, seed: int) -> None:
    known, chance, count = (folder / "sums").read_text().split(), random.Random(seed), 0
    while not (count and stop.exists()):
        store = open_crop_cache(persons, GEOMETRY, cache=cache)
        for i in chance.sample(range(len(known)), 10):
            assert hashlib.sha256(store.crop(i).tobytes()).hexdigest() == known[i], f"another crop {i}"
            count += 1
    (folder / f"read{seed}").write_text(str(count))


@contextmanager
def _no_lock(path: Path, root: Path) -> Any:
    yield


def _difference(cache: Path, folder: Path) -> list[str]:
    """What a cache holds besides, or other than, the reference."""
    own = {p.name: p.read_bytes() for p in cache.glob("crops/*")}
    reference = {p.name: p.read_bytes() for p in (folder / "reference").glob("crops/*")}
    if own.keys() != reference.keys():
        return [f"holds {sorted(own.keys() ^ reference.keys())} too much or too little"]
    return [f"another {name}" for name in reference if own[name] != reference[name]]


def _child(work: Callable[[], None]) -> int:
    """Does `work` in a forked process; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _ended(pid: int, who: str) -> list[str]:
    """Waits for a process; what went wrong with it."""
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return [f"{who} ended with {code}"] if code else []
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return [f"{who} hangs"]
