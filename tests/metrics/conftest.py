"""Tests of metrics have intervals as they are."""

import pytest

from semipose.metrics import bootstrap


@pytest.fixture(autouse=True)
def _resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)
