"""Tensors from and to files: what `--input name=f.npy` means, and where outputs go. Pickles are never read."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enginewright_runtime.errors import InputError, UsageError
from enginewright_runtime.plan.manifest import Binding

Array = np.ndarray[Any, Any]


def read_inputs(words: Sequence[str], bindings: Sequence[Binding]) -> dict[str, Array]:
    """Inputs from `name=f.npy`, from `f.npz` by its names, or from `f.npy` for an only input. Raises InputError."""
    arrays: dict[str, Array] = {}
    for word in words:
        name, separator, file = word.partition("=")
        if not separator:
            name, file = "", word
        loaded = _load(Path(file))
        if not isinstance(loaded, np.ndarray):
            arrays.update(loaded if not name else {name: _only(loaded, file)})
        elif name:
            arrays[name] = loaded
        elif len(bindings) == 1:
            arrays[bindings[0].name] = loaded
        else:
            names = ", ".join(binding.name for binding in bindings)
            raise InputError(f"The engine has the inputs {names}: say which one {file} is, as --input name={file}.")
    return arrays


def random_inputs(bindings: Sequence[Binding], seed: int = 0) -> dict[str, Array]:
    """Values to time an engine with: uniform in [0, 1) for floats, zeroes and ones for the rest. Raises UsageError."""
    generator = np.random.default_rng(seed)
    return {binding.name: _random(binding, generator) for binding in bindings}


def write_outputs(outputs: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """One .npy file an output; where each went. Raises UsageError if the folder cannot be written."""
    written: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in outputs.items():
            path = folder / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in name)}.npy"
            array = np.asarray(value)
            np.save(path, array.astype(np.str_) if array.dtype == object else array, allow_pickle=False)
            written[name] = path
    except OSError as error:
        raise UsageError(
            f"The outputs cannot be written to {folder}: {error.strerror or error}; name another folder."
        ) from error
    return written


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"The input file {path} cannot be read: {error.strerror or error}; check the path.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The input file {path} is not what numpy.save or numpy.savez write ({_why_not(path, error)}): "
            "write it again with numpy.save(path, array)."
        ) from error


def _why_not(path: Path, error: Exception) -> str:
    """NumPy takes whatever it does not know for a pickle, and then advises to load that."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start.startswith((b"\x93NUMPY", b"PK")):
        return f"it begins with {start!r}" if start else "it is empty"
    if "allow_pickle" in str(error):
        return "it holds Python objects, which are never loaded"
    return " ".join(str(error).split()).rstrip(".")


def _only(arrays: Mapping[str, Array], file: str) -> Array:
    if len(arrays) != 1:
        raise InputError(f"{file} holds {', '.join(arrays)}: give it without a name, or save one array alone.")
    return next(iter(arrays.values()))


def _random(binding: Binding, generator: np.random.Generator) -> Array:
    from enginewright_runtime.engine.values import STRING, dtype_of

    if binding.container != "tensor" or binding.shape is None or min(binding.shape, default=0) < 0:
        raise UsageError(f"The input {binding.name!r} has no fixed shape: give values for it with --input.")
    dtype = dtype_of(binding.dtype)
    if binding.dtype == STRING:
        texts = np.empty(binding.shape, dtype)
        texts.fill("text")
        return texts
    if dtype.kind in "iub":
        return generator.integers(0, 2, binding.shape).astype(dtype)
    return generator.random(binding.shape).astype(dtype)
