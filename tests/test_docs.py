"""The documentation matches the code: commands, links, examples."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.main import get_command

import semipose
from semipose.augment.views import eval_view
from semipose.cli import app
from semipose.data.data_config import DataConfig
from semipose.data.loader import unlabeled_batch
from semipose.inference.predictor import FrameCrops
from semipose.methods import METHODS, VARIANTS
from semipose.structures.instances import Instance, PoseDataset
from semipose.studies.grid import load_grid, presets
from semipose.trainer import train

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TEXT = "\n".join(page.read_text() for page in PAGES)


def commands(command=None, before=()):
    """Every visible command as words: ("data", "check")."""
    command = command or get_command(app)
    if not hasattr(command, "commands"):
        return [before]
    return [
        found
        for name, inner in command.commands.items()
        if not inner.hidden
        for found in commands(inner, (*before, name))
    ]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_documented(words):
    assert f"semipose {' '.join(words)}" in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_work(page):
    generated = {ROOT / "docs" / "reference" / "cli.md", ROOT / "docs" / "reference" / "configuration.md"}
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith(("http://", "https://")):
            target = (page.parent / link).resolve()
            assert target.exists() or target in generated, link


def test_every_method_has_a_section():
    sections = (ROOT / "docs" / "methods.md").read_text()
    assert all(re.search(rf"^## .*\b{re.escape(name)}(\s|$)", sections, re.MULTILINE) for name in [*METHODS, *VARIANTS])


def test_every_study_is_listed():
    listed = (ROOT / "docs" / "research" / "protocols.md").read_text()
    assert all(f"`{name}`" in listed for name in presets())


def test_the_studies_in_the_guide_are_valid(tmp_path):
    text = (ROOT / "docs" / "guides" / "studies.md").read_text()
    runs = []
    for number, study in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(study)
        runs.append(len(load_grid(str(tmp_path / f"{number}.yaml")).runs()))
    assert runs == [3 * 2 * 3 + 3, 2 * 4 * 3]


def test_the_program_without_pytorch_agrees_with_semipose(tmp_path, monkeypatch, tiny):
    """The program of docs/guides/export.md, run as it is beside an exported network."""
    pytest.importorskip("onnxruntime")
    train(tiny("supervised", **{"train.steps": 2}), tmp_path / "run")
    semipose.export(tmp_path / "run", tmp_path / "pose.onnx")
    monkeypatch.chdir(tmp_path)
    program = {}
    exec(
        re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guides" / "export.md").read_text(), re.DOTALL)[-1], program
    )
    model = semipose.load(tmp_path / "run")
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    boxes = [(60.0, 20.0, 180.0, 190.0), (5.5, 3.25, 40.0, 60.0), (250.0, 120.0, 90.0, 150.0)]
    people = [Instance(Path(), 0, n, box) for n, box in enumerate(boxes)]
    crops = FrameCrops(image, PoseDataset(model.skeleton, people, "image"), model.geometry)
    views = eval_view(unlabeled_batch(crops, [0, 1, 2]), model.geometry.input_size).images.numpy()
    for box, view in zip(boxes, views, strict=True):
        images, matrix = program["to_input"](image, box)
        assert np.abs(images - view).mean() * 0.226 * 255 < 2.5  # gray levels
        center = matrix[:, :2] @ [box[0] + (box[2] - 1) / 2, box[1] + (box[3] - 1) / 2] + matrix[:, 2]
        assert np.allclose(center, 31.5)
        joints, scores = program["pose"](image, box)
        assert (joints.shape, scores.shape) == ((17, 2), (17,))
        points = np.array([[30.2, 17.9], [44.0, 40.3]])
        cells = (points + 0.5) / 4 - 0.5
        rows, columns = np.mgrid[:16, :16]
        maps = np.stack([np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8) for x, y in cells])
        found, peaks = program["to_joints"](maps, matrix)
        assert np.abs(found @ matrix[:, :2].T + matrix[:, 2] - points).max() < 1.01  # a quarter of a cell
        assert np.allclose(peaks, maps.max(axis=(1, 2)))


def test_the_data_file_in_the_reference_has_known_keys():
    text = (ROOT / "docs" / "reference" / "data-formats.md").read_text()
    keys = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    assert set(keys) <= set(DataConfig.model_fields)
