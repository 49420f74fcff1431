"""Optional packages."""

import json

import pytest

from semipose.errors import ConfigError
from semipose.utils.extras import import_extra


def test_an_installed_package_is_imported():
    assert import_extra("json", "video", "reading") is json


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(ConfigError, match=r"reading videos needs .*no_such_package.*semipose\[video\]"):
        import_extra("no_such_package", "video", "reading videos")
