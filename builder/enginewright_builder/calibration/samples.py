"""Samples of a network's inputs from an .npz file: bounded, checked, and never unpickled.

The file comes from whoever wrote the manifest. So what a header claims is compared with the bytes that are there
before anything is allocated, and an array that does not fit its input is refused by name.
"""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from enginewright_runtime.engine.values import DTYPES, Array
from enginewright_runtime.errors import InputError
from enginewright_runtime.plan.manifest import Binding

LIMIT = 8 << 30  # bytes of all arrays of a file together
LABELS = "labels"
_MOST_COMPRESSED = 1032  # deflate's best ratio (zlib.net/zlib_tech.html): more is a lie


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Arrays by input name, the first dimension being the sample; `labels` is one integer a sample."""

    inputs: Mapping[str, Array]
    labels: Array | None = None

    @property
    def count(self) -> int:
        """How many samples there are."""
        return min((len(array) for array in self.inputs.values()), default=0)

    def batch(self, start: int, bindings: Sequence[Binding]) -> dict[str, Array]:
        """One feed of the bindings' shapes from sample `start` on, going round where the samples end."""
        feed: dict[str, Array] = {}
        for binding in bindings:
            array = self.inputs[binding.name]
            size = (binding.shape or (1,))[0]
            feed[binding.name] = np.ascontiguousarray(array[np.arange(start, start + size) % len(array)])
        return feed


def read(path: Path, bindings: Sequence[Binding], *, what: str, limit: int | None = None) -> Samples:
    """Read the samples for these inputs. `what` begins the sentence of every refusal.

    Raises InputError: no .npz file, an array too many or too few, another dtype or shape, differing counts.
    """
    arrays = _read_arrays(path, what)
    labels = arrays.pop(LABELS, None) if LABELS not in {binding.name for binding in bindings} else None
    wanted = ", ".join(repr(binding.name) for binding in bindings)
    for name in arrays:
        if name not in {binding.name for binding in bindings}:
            raise InputError(f"{what} has an array {name!r}, which is no input: wanted one array for each of {wanted}.")
    for binding in bindings:
        if binding.name not in arrays:
            got = ", ".join(repr(name) for name in arrays) or "none"
            raise InputError(f"{what} has no array for input {binding.name!r}: got {got}, wanted {wanted}.")
        _require_fit(arrays[binding.name], binding, what)
    counts = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        counts[LABELS] = len(labels) if labels.ndim == 1 and labels.dtype.kind in "iu" else -1
    if len(set(counts.values())) != 1 or 0 in counts.values():
        listed = ", ".join(f"{name} {n if n >= 0 else 'not integers in one row'}" for name, n in counts.items())
        raise InputError(f"{what} must have the same number of samples, one at least, in each array: got {listed}.")
    return Samples(
        inputs={name: array[:limit] for name, array in arrays.items()},
        labels=None if labels is None else labels[:limit],
    )


def _require_fit(array: Array, binding: Binding, what: str) -> None:
    if array.dtype != DTYPES.get(binding.dtype):
        raise InputError(
            f"{what} has {array.dtype.name} for input {binding.name!r}: wanted {binding.dtype}; "
            f"convert it with .astype({binding.dtype!r})."
        )
    shape = binding.shape
    if not shape or len(shape) != array.ndim or any(map(_differs, shape[1:], array.shape[1:])):
        wanted = ["samples", *(shape or ())[1:]] if shape else "an input with a first dimension to hold samples"
        raise InputError(f"{what} has the shape {list(array.shape)} for input {binding.name!r}: wanted {wanted}.")


def _differs(wanted: int, got: int) -> bool:
    return wanted not in (-1, got)


def _read_arrays(path: Path, what: str) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LIMIT:
                raise InputError(f"{what} claims more than {LIMIT >> 30} GiB of arrays: give fewer samples.")
            return {member.filename.removesuffix(".npy"): _read_array(archive, member, what) for member in members}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{what} cannot be read as .npz ({reason.rstrip('.')}): write it with numpy.savez(path, input_name=array)."
        ) from error


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> Array:
    if member.file_size > member.compress_size * _MOST_COMPRESSED + 1024:
        raise ValueError(f"{member.filename} claims {member.file_size} bytes in {member.compress_size}")
    with archive.open(member) as file:
        shape, dtype, header = _header(file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects, which are never loaded")
    size = math.prod(shape) * dtype.itemsize
    if size != member.file_size - header:
        raise ValueError(f"{member.filename} claims an array of {size} bytes and has {member.file_size - header}")
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"it is of the .npy version {version[0]}.{version[1]}, and 1.0 and 2.0 are read")
    return shape, dtype, file.tell()
