"""The package: public names are complete and load lazily."""

import subprocess
import sys

import pytest

import semipose


def test_importing_the_package_loads_nothing_heavy():
    code = "import semipose, sys; print(sorted({'torch', 'cv2', 'numpy', 'timm', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there():
    assert set(semipose.__all__) <= set(dir(semipose))
    for name in semipose.__all__:
        assert getattr(semipose, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        _ = semipose.sing
