"""Loss terms between two lines of the log."""

import math

import torch

from semipose.training.meter import LossMeter, MeanLosses


def term(value):
    return torch.tensor(value)


def test_means_leave_out_steps_that_were_not_taken():
    meter = LossMeter()
    meter.add({"supervised": term(1.0)}, term(True))
    meter.add({"supervised": term(math.nan), "unlabeled": term(math.nan)}, term(False))
    meter.add({"supervised": term(3.0), "unlabeled": term(4.0)}, term(True))
    assert meter.mean() == MeanLosses({"supervised": 2.0, "unlabeled": 4.0}, steps=3, skipped=1)


def test_without_a_step_taken_means_are_zero():
    meter = LossMeter()
    meter.add({"supervised": term(math.inf)}, term(False))
    assert meter.mean() == MeanLosses({"supervised": 0.0}, steps=1, skipped=1)


def test_the_meters_of_processes_are_merged():
    meters = [LossMeter({"supervised": term(value)}, {"supervised": term(2.0)}, term(2.0), 2) for value in (1.0, 3.0)]
    merged = LossMeter.merged(meters)
    assert (merged.sums, merged.taken, merged.steps) == ({"supervised": term(2.0)}, term(2.0), 2)
    assert LossMeter.merged([]).steps == 0
