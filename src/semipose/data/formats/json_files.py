"""JSON files: read fast, record by record where they are long, with a line that says where one is broken."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from semipose.errors import DataError


def read_json(path: Path, what: str, shape: Any = Any) -> Any:
    """The content of a JSON file; DataError names the file, and the line where it is not JSON.

    A file of another `shape` (a TypedDict) is read whole all the same, for its reader to say what is wrong. Where the
    shape has a `msgspec.Raw` the content stays as it is in the file, to be read by `each`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path} can't be read ({error.strerror}); check the path") from None
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # the standard library is slower and says more
    try:
        return json.loads(content.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{what} {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} {path} is not JSON: {type(error).__name__}; write it as UTF-8 JSON") from None


def each(records: list[Any], path: Path, shape: Any = Any) -> Iterator[Any]:
    """The records of a list, read one by one as they are asked for: as objects they take ten times the memory.

    As in `read_json`, a record of another `shape` is read all the same; DataError where it is not JSON.
    """
    decoder = msgspec.json.Decoder(shape)
    for number, record in enumerate(records):
        if not isinstance(record, msgspec.Raw):
            yield record
            continue
        try:
            content = decoder.decode(record)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            try:
                content = json.loads(bytes(record).decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path}: record {number} is not JSON: {type(error).__name__}; write it as UTF-8 JSON"
                ) from None
        yield content
