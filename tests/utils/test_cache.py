"""The cache folder follows the environment."""

from pathlib import Path

from semipose.utils.cache import cache_dir


def test_the_environment_names_the_folder(monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", "/own")
    assert cache_dir() == Path("/own")
    monkeypatch.setenv("SEMIPOSE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/semipose")
    monkeypatch.delenv("SEMIPOSE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "semipose"
