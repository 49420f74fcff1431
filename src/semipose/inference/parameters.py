"""Checks of parameters that several public functions have."""

from pathlib import Path
from typing import get_args

from semipose.data.data_errors import DataErrors, ErrorPolicy
from semipose.errors import ConfigError
from semipose.utils.files import is_run_folder


def data_errors_for(on_error: str) -> DataErrors:
    """Returns the handling of broken records and images under the policy `on_error`.

    Raises:
        ConfigError: If the policy is unknown.
    """
    if on_error not in get_args(ErrorPolicy):
        raise ConfigError(f"`on_error`: {on_error!r} is unknown; known: {', '.join(get_args(ErrorPolicy))}")
    return DataErrors(default="strict" if on_error == "strict" else "skip", option="on_error")


def refuse_run_folder(out: Path) -> None:
    """Raises ConfigError if the output folder is a run folder, which has files of the same names."""
    if is_run_folder(out):
        raise ConfigError(f"`out`: {out} is the folder of a run, whose files would be replaced; choose another folder")


def refuse_unused(reason: str, **given: object) -> None:
    """Raises ConfigError if one of the parameters is given, because it would have no effect."""
    names = [f"`{name}`" for name, value in given.items() if value]
    if names:
        raise ConfigError(f"{', '.join(names)}: {reason}; leave {'it' if len(names) == 1 else 'them'} out")
