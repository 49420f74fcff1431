"""CVAT's zip reads back, and its label has every joint and limb."""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from semipose.data.formats.cvat_writer import write_cvat
from semipose.data.formats.registry import read_annotations
from tests.data.formats.test_label_studio_writer import JOINTS, animals, renamed


def test_the_zip_holds_the_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = animals(Path())
    os.utime(written[0].image, (0, 0))  # before 1980, where the dates of zip files begin
    assert write_cvat(written, tmp_path / "cvat.zip") == tmp_path / "images"
    read = read_annotations(tmp_path / "cvat.zip")
    assert read.skeleton.joints == JOINTS
    for a, b in zip(read.instances, written.instances, strict=True):
        assert (a.image.read_bytes(), a.image.name, a.box) == (b.image.read_bytes(), b.image.name, b.box)
        np.testing.assert_array_equal(a.joints, b.joints)


def test_the_label_is_a_skeleton_with_all_joints(tmp_path):
    persons = animals(tmp_path)
    persons = persons.to_skeleton(persons.skeleton.with_given(limbs=[(JOINTS[0], JOINTS[2])]))
    write_cvat(persons, tmp_path / "cvat.zip")
    (label,) = json.loads((tmp_path / "cvat_labels.json").read_text())
    assert (label["name"], label["type"]) == ("mouse", "skeleton")
    assert [joint["name"] for joint in label["sublabels"]] == list(JOINTS)
    drawing = ET.fromstring(f"<svg>{label['svg']}</svg>")
    circles, lines = drawing.findall("circle"), drawing.findall("line")
    assert [c.get("data-label-name") for c in circles] == list(JOINTS)
    positions = np.array([[float(c.get("cx")), float(c.get("cy"))] for c in circles])
    assert ((positions >= 10) & (positions <= 90)).all()
    assert [(line.get("data-node-from"), line.get("data-node-to")) for line in lines] == [("1", "3")]
    assert (float(lines[0].get("x1")), float(lines[0].get("y1"))) == tuple(positions[0])


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    persons = renamed(animals(tmp_path), tmp_path / "images" / os.fsdecode(b"caf\xe9.png"))
    write_cvat(persons, tmp_path / "cvat.zip")
    read = read_annotations(tmp_path / "cvat.zip")
    assert {p.image.name for p in read.instances} == {"a 1.png", r"caf\udce9.png"}
