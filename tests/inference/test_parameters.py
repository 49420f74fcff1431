"""Shared parameters: unknown policies and parameters without an effect are refused by name."""

import pytest

from semipose.errors import ConfigError
from semipose.inference.parameters import data_errors_for, refuse_unused


def test_unknown_policies_are_refused():
    with pytest.raises(ConfigError, match="`on_error`: 'ignore' is unknown; known: strict, skip"):
        data_errors_for("ignore")


def test_parameters_without_an_effect_are_refused():
    refuse_unused("no reason", images=None, flip_test=False, min_score=0.0)
    with pytest.raises(ConfigError, match="`images`: no reason; leave it out"):
        refuse_unused("no reason", images="folder", boxes=None)
    with pytest.raises(ConfigError, match="`images`, `boxes`: no reason; leave them out"):
        refuse_unused("no reason", images="folder", boxes="file")
