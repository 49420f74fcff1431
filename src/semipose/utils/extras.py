"""Import of optional packages."""

import importlib
from types import ModuleType

from semipose.errors import ConfigError


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports an optional package.

    Args:
        module: Name of the module, for example `av`.
        extra: The extra of semipose that installs it, for example `video`.
        purpose: The subject of the error message "… needs the package".

    Raises:
        ConfigError: If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"{purpose} needs the package {module!r}, which is not installed; pip install 'semipose[{extra}]'"
        ) from None
