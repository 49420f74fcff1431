"""The cache folder follows the environment."""

from pathlib import Path

from semipose.utils.cache import cache_dir, is_cached_image


def test_the_environment_names_the_folder(monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", "/own")
    assert cache_dir() == Path("/own")
    monkeypatch.setenv("SEMIPOSE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/semipose")
    monkeypatch.delenv("SEMIPOSE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "semipose"


def test_data_of_the_user_in_the_cache_folder_is_not_taken_for_cached(monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", "/scratch/me")
    assert is_cached_image(Path("/scratch/me/unpacked/project-1/a.png"))
    assert is_cached_image(Path("/scratch/me/frames/1/a_000001.jpg"))
    assert not is_cached_image(Path("/scratch/me/photos/a.png"))
