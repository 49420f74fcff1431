"""Devices by name."""

import pytest
import torch

from semipose.errors import ConfigError
from semipose.utils.device import resolve_device


def test_known_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99"])
def test_other_devices_are_refused(name):
    with pytest.raises(ConfigError, match=f"`device`: '{name}'"):
        resolve_device(name)
