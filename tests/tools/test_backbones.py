"""The table of backbones: what is measured of a small network, and how lines are written."""

import pytest
import timm
import torch

from semipose.models.vitpose import SIZES
from tools.backbones import BACKBONES, MARK, Row, kept_bytes, make, measure, table, weights_of, with_table


def test_a_line_is_computed_from_the_network():
    row = measure("tf_efficientnet_lite0", torch.device("cpu"), 1, 1, (64, 64))
    assert row.parameters == sum(p.numel() for p in make("tf_efficientnet_lite0", "meta").parameters())
    assert row.step > 0
    assert (row.head, row.weights, row.licence) == ("deconvolution", "in1k", "apache-2.0")


def test_the_largest_network_has_the_published_size():
    assert sum(p.numel() for p in make("vitpose_huge", "meta").parameters()) / 1e6 == pytest.approx(631, abs=2)


def test_kept_memory_grows_with_the_batch_and_is_not_less_than_one_map():
    network = make("tf_efficientnet_lite0", "cpu")
    one, two = (kept_bytes(network, torch.randn(n, 3, 64, 64)) for n in (1, 2))
    assert one > 32 * 32 * 32 * 4
    assert two == pytest.approx(2 * one, rel=0.05)


def test_every_backbone_has_weights_and_a_licence():
    for name in BACKBONES:
        assert name in SIZES or timm.is_model_pretrained(name)
        assert all(weights_of(name))


def test_lines_are_written():
    rows = [Row("resnet18", "deconvolution", 15_000_000, 1.0, 2**25, "a1_in1k", "mit")]
    lines = table(rows, 32)
    assert lines[2] == "| `resnet18` | deconvolution | 15.0 M | 1.0 | 1.2 GiB | a1_in1k | mit |"
    text = with_table(f"before\n{MARK}old{MARK}\nafter", rows, 32, "a fast GPU")
    assert "old" not in text
    assert lines[2] in text
    assert "Measured with a fast GPU." in text
    assert with_table(text, rows, 32, "a fast GPU") == text
    assert (text.startswith("before\n"), text.endswith("\nafter")) == (True, True)
