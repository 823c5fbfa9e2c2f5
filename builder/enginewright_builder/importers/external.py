"""External data is checked before anything opens it: a model must never make us read outside of its own folder."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir

from enginewright_runtime.errors import ModelError

_LONGEST_NAME = 255  # bytes, of a file in a folder
_MOST_AXES = 64  # more than any runtime holds; the product of ever more sizes would take ever longer


def check(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model whose external tensors lie elsewhere, are missing or are cut. Raises ModelError."""
    folder = path.parent
    for tensor in tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_tensor(tensor, folder, path)
        else:
            _check_elements(tensor, path)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in a model: of its graph, of bodies, of functions, of attributes."""
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        yield from _of_nodes(function.node)
        yield from _of_attributes(function.attribute_proto)


def _check_tensor(tensor: onnx.TensorProto, folder: Path, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not isinstance(location, str):  # protobuf's way with a text that is none
        raise ModelError(f"The model {path} keeps a tensor in a file whose name is no text: export or fetch it again.")
    what = f"The model {path} keeps the tensor {tensor.name!r} in the file {location!r}"
    windows = PureWindowsPath(location)
    parts = {*PurePosixPath(location).parts, *windows.parts}
    if any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise ModelError(f"{what[:_LONGEST_NAME]}…, a name that no file has: export it again.")
    if not location or "\0" in location or location.startswith("/") or windows.anchor or ".." in parts:
        raise ModelError(
            f"{what}, which leaves the model's folder: wanted a relative path without '..'; export it again."
        )
    file = folder
    for part in PurePosixPath(location).parts:
        file = file / part
        if file.is_symlink():
            raise ModelError(f"{what}, which goes through the symbolic link {file}: put the file itself there.")
    if not file.is_file():
        raise ModelError(f"{what}, which does not exist in {folder}: put it beside the model.")
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries["length"]) if "length" in entries else size - offset
    except ValueError as error:
        raise ModelError(f"{what} at an offset or length that is no number: export it again.") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelError(f"{what}, bytes {offset} to {offset + length}, but the file has {size} bytes: fetch it again.")
    _check_axes(tensor, path)
    wanted = (math.prod(tensor.dims) * _bits(tensor, path) + 7) // 8
    if length < wanted:
        raise ModelError(f"{what}, where it has {length} bytes, and its shape takes {wanted}: export it again.")


def _bits(tensor: onnx.TensorProto, path: Path) -> int:
    """Of one element."""
    try:
        return ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as error:  # no type at all, or one that has no size
        raise ModelError(
            f"The model {path} is damaged: the tensor {tensor.name!r} is of the type {tensor.data_type}, of which no "
            "file holds elements; export or fetch it again."
        ) from error


def _check_axes(tensor: onnx.TensorProto, path: Path) -> None:
    if any(size < 0 for size in tensor.dims):
        raise ModelError(
            f"The model {path} is damaged: the tensor {tensor.name!r} has the shape {list(tensor.dims[:_MOST_AXES])}, "
            "wanted no size below 0; export or fetch it again."
        )
    if len(tensor.dims) > _MOST_AXES:
        raise ModelError(
            f"The model {path} is damaged: the tensor {tensor.name!r} has {len(tensor.dims)} axes, wanted {_MOST_AXES} "
            "at most; export or fetch it again."
        )


def _check_elements(tensor: onnx.TensorProto, path: Path) -> None:
    """Of the types that weights have; the other fields are ONNX's checker's."""
    _check_axes(tensor, path)
    given = {1: tensor.float_data, 7: tensor.int64_data, 11: tensor.double_data}.get(tensor.data_type)
    wanted = math.prod(tensor.dims)
    got = len(given) if given is not None and not tensor.raw_data else wanted
    if got != wanted:
        raise ModelError(
            f"The model {path} is damaged: the tensor {tensor.name!r} has {got} elements, and its shape "
            f"{list(tensor.dims)} takes {wanted}; export or fetch it again."
        )


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _of_graph(graph)
