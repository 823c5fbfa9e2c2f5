"""Any network as a file of ONNX that ONNX Runtime runs: our own layers expanded, large weights in a file beside it."""

from pathlib import Path

import onnx_ir as ir

from enginewright_builder.network import lowering
from enginewright_builder.network.network import Network
from enginewright_runtime.errors import StorageError

_INLINE = 1 << 30  # bytes of weights up to which one file holds all: protobuf ends at 2 GB


def save(network: Network, path: Path) -> None:
    """Write `path`, and `path`.data where the weights are too large for one file. Raises StorageError."""
    model = lowering.to_onnx(network)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    beside = f"{path.name}.data" if size > _INLINE else None
    try:
        ir.save(model, path, external_data=beside)
    except OSError as error:
        raise StorageError(f"The network cannot be written to {path}: {error.strerror or error}.") from error
