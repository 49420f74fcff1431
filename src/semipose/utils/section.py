"""The base of all configuration sections."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the configuration: unknown options are errors, and the string under a field describes it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
