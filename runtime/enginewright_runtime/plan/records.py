"""Frozen dataclasses to JSON and back, strictly.

What a plan, a recipe or a build request says is read from files and environments that may be damaged or hostile, so
reading checks every field's type, refuses unknown, missing and repeated keys, and names the place. Nothing is
executed and nothing is allocated beyond what the JSON text itself holds.
"""

import dataclasses
import json
import math
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar, get_args, get_origin

from enginewright_runtime.errors import PlanError

Record = TypeVar("Record")

DEPTH_LIMIT = 100  # so that whoever walks what was read may do so recursively

_EXACT = 1 << 53  # integers beyond are no numbers that a float holds


def to_json(record: object) -> Any:
    """A record as plain JSON values; fields that hold their default are left out, so that adding one keeps digests."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        hints = _hints(type(record))
        values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        return {
            # 7 where a number is meant is written as 7.0, as it is after reading: else the digest would change.
            field.name: float(values[field.name]) if hints[field.name] is float else to_json(values[field.name])
            for field in dataclasses.fields(record)
            if not _is_default(field, values[field.name])
        }
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, Sequence) and not isinstance(record, str | bytes):
        return [to_json(value) for value in record]
    return record


def canonical(record: object) -> bytes:
    """The one JSON text of a record: sorted keys, no white space, UTF-8. Its sha256 is the record's digest."""
    text = json.dumps(to_json(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(record: object) -> str:
    """sha256 of the canonical JSON, as 64 hexadecimal digits."""
    return sha256(canonical(record)).hexdigest()


def parse(text: bytes | str, *, what: str) -> Any:
    """JSON text to values. Raises PlanError for anything that is not strict JSON, naming `what` was read."""
    try:
        if isinstance(text, bytes):
            text = text.decode()  # json itself would also take UTF-16 and UTF-32
        read = json.loads(
            text,
            object_pairs_hook=_no_repeats,
            parse_constant=_no_constants,
            parse_float=_finite,
            parse_int=_machine_sized,
        )
        if "\\u" in text:
            json.dumps(read, ensure_ascii=False).encode()  # half a surrogate pair is no text
        _check_depth(read)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PlanError(f"{what} is not valid JSON: {shown(reason, 200)}.") from error
    return read


def from_json(cls: type[Record], value: Any, *, what: str) -> Record:
    """Read a record of type `cls`. Raises PlanError naming the field, what was got and what was wanted."""
    return typing.cast(Record, _read(cls, value, what))


def _read(wanted: Any, value: Any, where: str) -> Any:
    origin = get_origin(wanted)
    if wanted is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in get_args(wanted):
            return None
        (inner,) = (arg for arg in get_args(wanted) if arg is not type(None))
        return _read(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _unfit(where, "a list", value)
        return tuple(_read(get_args(wanted)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _unfit(where, "an object", value)
        return {key: _read(get_args(wanted)[1], item, f"{where}.{shown(key)}") for key, item in value.items()}
    if dataclasses.is_dataclass(wanted):
        return _read_dataclass(wanted, value, where)
    return _read_scalar(wanted, value, where)


def _read_dataclass(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unfit(where, "an object", value)
    hints = _hints(cls)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise PlanError(
            f"{where} has the unknown field {shown(unknown[0])!r}; it may have: {', '.join(sorted(hints))}."
        )
    required = {field.name for field in dataclasses.fields(cls) if _required(field)}
    missing = sorted(required - set(value))
    if missing:
        raise PlanError(f"{where} lacks the field {missing[0]!r}.")
    fields = {name: _read(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return cls(**fields)
    except ValueError as error:
        raise PlanError(f"{where} does not hold together: {error}.") from error


def _read_scalar(wanted: Any, value: Any, where: str) -> Any:
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        if not isinstance(value, str) or value not in list(wanted):
            raise _unfit(where, f"one of {', '.join(wanted)}", value)
        return wanted(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise _unfit(where, {str: "text", int: "an integer", float: "a number", bool: "true or false"}[wanted], value)
    return value


def shown(text: str, limit: int = 60) -> str:
    """Foreign text for a sentence: on one line, and no longer than that."""
    line = " ".join(text.split()) if text.isprintable() else ascii(text[:limit])[1:-1]
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _unfit(where: str, wanted: str, value: Any) -> PlanError:
    # What is nested is named and not written out: that could be as large, and as deep, as the file.
    if isinstance(value, list | dict):
        got = "a list" if isinstance(value, list) else "an object"
    else:
        got = shown(json.dumps(value, ensure_ascii=False, default=str))
    return PlanError(f"{where} must be {wanted}, got {got}.")


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    return field.default_factory is not dataclasses.MISSING and bool(value == field.default_factory())


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(repeated)!r} occurs twice")
    return read


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{shown(text)} is too large for a number")
    return number


def _machine_sized(text: str) -> int:
    number = int(text) if len(text) <= 20 else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{shown(text)} does not fit in 64 bits")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEPTH_LIMIT} levels")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
