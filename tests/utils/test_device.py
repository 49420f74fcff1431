"""Devices by name."""

import pytest
import torch

from semipose.errors import ConfigError
from semipose.utils.device import resolve_device


def test_known_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("name", "message"), [("gpu", "'gpu' is unknown"), ("cuda:99", "'cuda:99' is not available")])
def test_other_devices_are_refused(name, message):
    with pytest.raises(ConfigError, match=f"`device`: {message}"):
        resolve_device(name)
