"""Frozen dataclasses to JSON and back, strictly.

What a plan, a recipe or a build request says is read from files and environments that may be damaged or hostile, so
reading checks every field's type, refuses unknown, missing and repeated keys, and names the place. Nothing is
executed and nothing is allocated beyond what the JSON text itself holds.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar, get_args, get_origin

from enginewright_runtime.errors import PlanError

Record = TypeVar("Record")


def to_json(record: object) -> Any:
    """A record as plain JSON values; fields that hold their default are left out, so that adding one keeps digests."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {
            field.name: to_json(getattr(record, field.name))
            for field in dataclasses.fields(record)
            if not _is_default(field, getattr(record, field.name))
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
        return json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PlanError(f"{what} is not valid JSON: {reason}.") from error


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
        return {key: _read(get_args(wanted)[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(wanted):
        return _read_dataclass(wanted, value, where)
    return _read_scalar(wanted, value, where)


def _read_dataclass(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unfit(where, "an object", value)
    hints = _hints(cls)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise PlanError(f"{where} has the unknown field {unknown[0]!r}; it may have: {', '.join(sorted(hints))}.")
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
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise _unfit(where, {str: "text", int: "an integer", float: "a number", bool: "true or false"}[wanted], value)
    return value


def _unfit(where: str, wanted: str, value: Any) -> PlanError:
    got = json.dumps(value, default=str)
    return PlanError(f"{where} must be {wanted}, got {got if len(got) <= 60 else got[:57] + '...'}.")


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
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return read


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
