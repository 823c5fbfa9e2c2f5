"""The blobs of a caffemodel, by the layers' names, read straight from protobuf's wire format.

Not through message classes: those take a hundred bytes for each empty message of two, so that a hostile file of a
gigabyte would fill any memory, and a Python number for each weight. Here a blob is a slice of the file until the layer
asks for it. Only what decides a blob is read, so the depth is fixed and nothing recurs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from enginewright_runtime.errors import ModelError, UnsupportedError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MOST_FIELDS = 1_000_000  # of one message: a network has thousands of layers, a layer tens of blobs
_MOST_DIMENSIONS = 32

# NetParameter: the field of its layers, and in a layer those of its name and its blobs. First V2, then V1.
_LAYER_FORMS = MappingProxyType({100: (1, 7), 2: (4, 6)})
_DATA, _DOUBLE_DATA, _SHAPE, _RAW_TYPE, _RAW = 5, 8, 7, 10, 12
_OLD_SHAPE = (1, 2, 3, 4)  # num, channels, height, width
_DIM = 1
_RAW_TYPES = MappingProxyType({0: "<f8", 1: "<f4", 2: "<f2"})  # of NVIDIA's Caffe: DOUBLE, FLOAT, FLOAT16

Payload = int | memoryview
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One blob of a layer as it lies in the file. `shape` is what the file says; an old one has four dimensions."""

    shape: tuple[int, ...]
    chunks: tuple[memoryview, ...]
    dtype: str

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return sum(len(chunk) for chunk in self.chunks) // np.dtype(self.dtype).itemsize

    def array(self) -> Floats:
        """The numbers in float32, which Caffe computes in, in one dimension."""
        parts = [np.frombuffer(chunk, self.dtype) for chunk in self.chunks]
        with np.errstate(over="ignore"):  # a double that is past float32's range is infinite in Caffe too
            return np.concatenate(parts).astype(np.float32)


def read(path: Path) -> Mapping[str, tuple[Blob, ...]]:
    """The blobs of every layer that has some. Raises ModelError: not a caffemodel, truncated, damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"The model {path} does not exist: give the path of a caffemodel.") from error
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise ModelError(f"The model {path} is empty: got 0 bytes, wanted a caffemodel; fetch it again.")
    if data.startswith(b"\x89HDF"):
        raise UnsupportedError(f"The model {path} is a snapshot in HDF5: save it as a binary caffemodel.")
    try:
        return _layers(memoryview(data))
    except _WireError as error:
        raise ModelError(
            f"The model {path} is not a caffemodel, or is truncated or damaged ({error}): fetch it again."
        ) from error


class _WireError(Exception):
    """Bytes that are not protobuf's, or not a caffemodel's."""


def _layers(model: memoryview) -> dict[str, tuple[Blob, ...]]:
    found: dict[str, tuple[Blob, ...]] = {}
    seen = 0
    for number, payload in _fields(model):
        if number not in _LAYER_FORMS or not isinstance(payload, memoryview):
            continue
        seen += 1
        name, blobs = _layer(payload, *_LAYER_FORMS[number])
        if blobs and name in found:
            raise _WireError(f"two layers with weights have the name {name!r}")
        if blobs:
            found[name] = blobs
    if not seen:
        raise _WireError("it holds no layer")
    return found


def _layer(layer: memoryview, name_field: int, blobs_field: int) -> tuple[str, tuple[Blob, ...]]:
    name, blobs = "", []
    for number, payload in _fields(layer):
        if isinstance(payload, memoryview):
            if number == name_field:
                name = bytes(payload).decode(errors="replace")
            elif number == blobs_field:
                blobs.append(_blob(payload))
    return name, tuple(blobs)


def _blob(blob: memoryview) -> Blob:
    old, chunks = dict.fromkeys(_OLD_SHAPE, 0), {_DATA: [], _DOUBLE_DATA: [], _RAW: []}  # type: ignore[var-annotated]
    shape: tuple[int, ...] | None = None
    raw_type = 1
    for number, payload in _fields(blob):
        if isinstance(payload, memoryview):
            if number in chunks:
                chunks[number].append(payload)
            elif number == _SHAPE:
                shape = _shape(payload)
        elif number in old:
            old[number] = payload
        elif number == _RAW_TYPE:
            raw_type = payload
    if raw_type not in _RAW_TYPES:
        raise _WireError(f"a blob is of the raw type {raw_type}, which holds no weights")
    field, dtype = next(
        (each for each in ((_DATA, "<f4"), (_DOUBLE_DATA, "<f8")) if chunks[each[0]]), (_RAW, _RAW_TYPES[raw_type])
    )
    if shape is None:
        shape = tuple(old.values())
    made = Blob(shape=shape, chunks=tuple(chunks[field]), dtype=dtype)
    if any(len(chunk) % np.dtype(dtype).itemsize for chunk in made.chunks) or made.count != math.prod(shape):
        raise _WireError(f"a blob of the shape {list(shape)} holds {made.count} numbers")
    return made


def _shape(message: memoryview) -> tuple[int, ...]:
    dimensions: list[int] = []
    for number, payload in _fields(message):
        if number != _DIM:
            continue
        if isinstance(payload, int):
            dimensions.append(payload)
            continue
        position = 0
        while position < len(payload) and len(dimensions) <= _MOST_DIMENSIONS:
            value, position = _varint(payload, position)
            dimensions.append(value)
    if len(dimensions) > _MOST_DIMENSIONS:
        raise _WireError(f"a blob has more than {_MOST_DIMENSIONS} dimensions")
    return tuple(dimensions)


def _fields(message: memoryview) -> Iterator[tuple[int, Payload]]:
    """The fields of a message: number, and a varint's value or the bytes. Fixed ones are skipped: blobs have none."""
    position = 0
    for _ in range(_MOST_FIELDS):
        if position >= len(message):
            return
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
        elif kind == _BYTES:
            length, position = _varint(message, position)
            if length > len(message) - position:
                raise _WireError(f"a field of {length} bytes begins {len(message) - position} bytes before the end")
            yield key >> 3, message[position : position + length]
            position += length
        elif kind in _FIXED and position + _FIXED[kind] <= len(message):
            position += _FIXED[kind]
        else:
            raise _WireError(f"a field has the wire type {kind}")
    if position < len(message):
        raise _WireError(f"a message has more than {_MOST_FIELDS} fields")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _WireError("a number does not end")
