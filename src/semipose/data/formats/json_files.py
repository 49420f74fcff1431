"""JSON files: long lists are decoded record by record, and errors name the line.

One rule for encodings: UTF-8, and UTF-16 and UTF-32, each with or without a byte-order mark.
"""

import codecs
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from semipose.errors import DataError

log = logging.getLogger(__name__)

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
    content = _read_utf8(path, what)
    try:
        return msgspec.json.decode(content, type=schema)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # the standard library is slower, accepts NaN and names the line
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{what} {path}, line {line}: {_describe(error)}") from None
    except json.JSONDecodeError as error:
        if _json_lines(content):
            raise DataError(f"{what} {path} is JSON lines, one value in each line; write one JSON value") from None
        raise DataError(f"{what} {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} {path} is not JSON: {type(error).__name__}; write it as UTF-8 JSON") from None


def read_json_list(path: Path, what: str, needs: str) -> list[Any]:
    """Returns the content of a file with a JSON list of records, or of one with a record in each line.

    A single line is a record if it names an image.

    Args:
        path: The file.
        what: What the file is, for the error message.
        needs: What it should contain, likewise.

    Raises:
        DataError: If the file cannot be read or is neither.
    """
    lines = _json_lines(_read_utf8(path, what))
    if len(lines) > 1 or (lines and not lines[0].keys().isdisjoint(("image_id", "file_name"))):
        log.info("%s %s is read as JSON lines, one record in each", what, path)
        return lines
    content = read_json(path, what)
    if not isinstance(content, list):
        raise DataError(f"{what} {path} is not a list; it needs {needs}")
    return content


def _read_utf8(path: Path, what: str) -> bytes:
    """The content of a file, as UTF-8 without a byte-order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path} can't be read ({error.strerror}); check the path") from None
    encoding = json.detect_encoding(content)
    if encoding == "utf-8-sig":
        return content.removeprefix(codecs.BOM_UTF8)
    if encoding == "utf-8":
        return content
    try:
        return content.decode(encoding).encode("utf-8", errors="surrogatepass")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {path} is not {encoding} ({error.reason}); save it as UTF-8") from None


def _describe(error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    return f"the byte 0x{byte:02x} is not UTF-8, perhaps Latin-1 or Windows-1252; save the file as UTF-8"


def _json_lines(content: bytes) -> list[Any]:
    """The values of a file that has one JSON object in each line; empty for any other file."""
    if not content[:100].lstrip().startswith(b"{"):
        return []
    try:
        return [json.loads(line) for line in content.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return []


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
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: record {number}: {_describe(error)}") from None
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
            content = file.read(HEAD_SIZE)
        return content.decode(json.detect_encoding(content), errors="ignore").lstrip()
    except OSError:
        return ""
