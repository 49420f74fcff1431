"""JSON files: long lists are decoded record by record, and errors name the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from semipose.errors import DataError

HEAD_SIZE = 1 << 20
"""Number of bytes that are read to recognize a format."""


def read_json(path: Path, what: str, schema: Any = Any) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: The file.
        what: What the file is, for the error message.
        schema: The TypedDict or type to decode to; keys that it lacks take no memory, and lists of `msgspec.Raw` stay
            encoded for `iterate_records`. A file of another structure is decoded without it, so that the reader can
            report what is wrong.

    Raises:
        DataError: If the file cannot be read or is not JSON; the message names line and column.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path} can't be read ({error.strerror}); check the path") from None
    try:
        return msgspec.json.decode(content, type=schema)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # the standard library is slower, accepts NaN and names the line
    try:
        return json.loads(content.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{what} {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} {path} is not JSON: {type(error).__name__}; write it as UTF-8 JSON") from None


def iterate_records(records: list[Any], path: Path, schema: Any = Any) -> Iterator[Any]:
    """Decodes the records of a list one by one, because all of them as objects take ten times the memory.

    Args:
        records: The list, with records that `read_json` left encoded.
        path: The file, for the error message.
        schema: As in `read_json`.

    Raises:
        DataError: If a record is not JSON.
    """
    decoder = msgspec.json.Decoder(schema)
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


def is_json_object(path: Path) -> bool:
    """Returns whether a file begins like a JSON object."""
    return _head(path).startswith("{")


def first_record(path: Path) -> dict[str, Any]:
    """Returns the first record of a file with a JSON list of objects, and {} for any other file."""
    head = _head(path)
    try:
        record = json.JSONDecoder().raw_decode(head[1:].lstrip())[0] if head.startswith("[") else None
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else {}


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_SIZE).decode("utf-8-sig", errors="ignore").lstrip()
    except OSError:
        return ""
