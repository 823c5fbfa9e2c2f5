"""Any network as files: ONNX that ONNX Runtime runs, or the text form with its weights beside it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import lowering, parsing, text
from enginewright_builder.network.network import Network
from enginewright_runtime.errors import ModelError, StorageError

_INLINE = 1 << 30  # bytes of weights up to which one file holds all: protobuf ends at 2 GB


def save(network: Network, path: Path) -> tuple[Path, ...]:
    """Write ONNX, our own layers expanded; weights too large for one file go to `path`.data. Returns what was written.

    Raises StorageError.
    """
    model = lowering.to_onnx(network)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    beside = f"{path.name}.data" if size > _INLINE else None
    try:
        ir.save(model, path, external_data=beside)
    except OSError as error:
        raise StorageError(f"The network cannot be written to {path}: {error.strerror or error}.") from error
    return (path, path.with_name(beside)) if beside else (path,)


def save_text(network: Network, path: Path) -> tuple[Path, ...]:
    """Write the text form, and what it leaves out as .npz beside it. Returns what was written. Raises StorageError."""
    arrays = {name: a if a.dtype != object else np.array(a.tolist(), "S") for name, a in text.unseen(network).items()}
    beside = path.with_suffix(".npz")
    try:
        path.write_text(text.to_text(network), encoding="utf-8")
        if arrays:
            np.savez(beside, allow_pickle=False, **arrays)
    except OSError as error:
        raise StorageError(f"The network cannot be written to {path}: {error.strerror or error}.") from error
    return (path, beside) if arrays else (path,)


def load_text(path: Path) -> Network:
    """Read what `save_text` wrote. Raises ModelError."""
    beside = path.with_suffix(".npz")
    try:
        written = path.read_text(encoding="utf-8")
        if not beside.exists():
            return parsing.from_text(written)
        with np.load(beside, allow_pickle=False) as arrays:
            return parsing.from_text(written, arrays)
    except (OSError, ValueError) as error:
        raise ModelError(f"The network {path} cannot be read: {error}.") from error
