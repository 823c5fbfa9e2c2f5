"""ONNX in: read, check, and bring a model into the one form that passes expect. Nothing is converted.

A model's opset stays what it is: ONNX Runtime runs them all, and a pass that does not know one declines. The form:
local functions inlined, constants as initializers of the main graph, no initializer among the inputs, every layer
named, every type and shape that ONNX's own inference can tell. External data must lie in the model's folder and is
never read here: onnx-ir maps it when a tensor's bytes are asked for.
"""

from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf publishes no types
from onnx.checker import ValidationError

from enginewright_builder.importers import equations, external, operators, references, sparse, tidy
from enginewright_builder.importers import outputs as naming
from enginewright_builder.network import rewire, shapes
from enginewright_builder.network.network import Network
from enginewright_builder.plugins.collection import NONE, Plugins
from enginewright_runtime.errors import ModelError

_LARGE = 256 << 20  # bytes
# What ONNX's checker refuses and ONNX Runtime takes: layers out of order, outputs of which not even the rank is said.
_TOLERATED = ("topologically sorted", "Field 'shape' of 'type' is required but missing")


def load(path: Path, *, outputs: tuple[str, ...] = (), plugins: Plugins = NONE) -> Network:
    """Read the ONNX model at `path`; `outputs` names what to compute (any layer's output), empty means the model's own.

    Raises ModelError (missing, damaged, invalid, external data outside of its folder) and UnsupportedError (operators
    that ONNX Runtime does not know, all of them in one sentence; an output that no layer makes).
    """
    proto, spotless = _checked(path, plugins)
    model = _deserialize(proto, path)
    ir.external_data.set_base_dir(model.graph, path.parent)
    if not spotless:
        _sort(model, path)
    notes = _tidy(model, path)
    network = Network(model, notes=notes, plugins=plugins)
    rewire.lift_constants(network)
    if outputs:
        _choose(network, outputs, path)
    shapes.infer(network)
    return network


def _checked(path: Path, plugins: Plugins) -> tuple[onnx.ModelProto, bool]:
    """The model after every check, and whether ONNX's checker has nothing to say.

    The checker parses once more, and holding both takes three times the file: so ours is let go meanwhile if that is
    large.
    """
    data = _read(path)
    proto = _parse(data, path)
    external.check(proto, path)
    operators.check(proto, path, plugins)
    equations.check(proto, path)
    beside = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in external.tensors(proto))
    if len(data) > _LARGE:
        del proto
    spotless = _check(str(path) if beside else data, path)  # external data is found from the path alone
    if len(data) > _LARGE:
        proto = _parse(data, path)
    references.check(proto, path)
    return proto, spotless


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"The model {path} does not exist: give the path of an ONNX file.") from error
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise ModelError(f"The model {path} is empty: got 0 bytes, wanted an ONNX file; export or fetch it again.")
    return data


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"The model {path} is not an ONNX file, or is truncated ({len(data)} bytes do not parse): "
            "export or fetch it again."
        ) from error
    if not proto.HasField("graph") or not proto.opset_import or not (proto.graph.node or proto.graph.output):
        raise ModelError(
            f"The model {path} is not an ONNX file: its {len(data)} bytes hold no graph with an operator set; "
            "export or fetch it again."
        )
    return proto


def _check(model: str | bytes, path: Path) -> bool:
    """Whether ONNX's checker has nothing to say; False where it only says what ONNX Runtime tolerates, and so do we."""
    try:
        onnx.checker.check_model(model)
    except UnicodeDecodeError as error:
        raise ModelError(f"The model {path} is damaged: a name in it is not text; export or fetch it again.") from error
    except ValidationError as error:
        reason = " ".join(str(error).split("\n\n", maxsplit=1)[0].split()).rstrip(".")
        if any(words in reason for words in _TOLERATED):
            return False
        raise ModelError(f"The model {path} is not valid ONNX: {reason}; export it again.") from error
    except ValueError as error:  # its own parser is stricter than protobuf's
        raise ModelError(
            f"The model {path} is damaged: ONNX's checker cannot read it; export or fetch it again."
        ) from error
    return True


def _deserialize(proto: onnx.ModelProto, path: Path) -> ir.Model:
    try:
        sparse.densify(proto)
        return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ModelError(f"The model {path} does not hold together: {reason}; export or fetch it again.") from error


def _tidy(model: ir.Model, path: Path) -> tuple[str, ...]:
    try:
        return tidy.tidy(model)
    except ValueError as error:  # a call that does not fit its function, or functions that call each other
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ModelError(f"The model {path} is not valid ONNX: {reason}; export it again.") from error


def _sort(model: ir.Model, path: Path) -> None:
    try:
        model.graph.sort()
    except ValueError as error:
        raise ModelError(f"The model {path} is not valid ONNX: its layers form a cycle; export it again.") from error


def _choose(network: Network, outputs: tuple[str, ...], path: Path) -> None:
    made = {value.name: value for node in network.layers() for value in node.outputs if value.name}
    own = [value.name for value in network.outputs if value.name]
    chosen = naming.choose(made, outputs, own, path)
    network.graph.outputs.clear()
    network.graph.outputs.extend(made[name] for name in chosen)
