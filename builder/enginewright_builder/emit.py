"""From networks to the bytes of a plan. The bytes depend on the recipe, the choices and the report, on nothing else:
no clock, no host name, no path, and blobs in the order in which they were asked for.

A host segment is an ONNX model whose initializers above a kilobyte are external data named `weights`: their bytes are
blobs of the plan, one for each content, shared by all schedules and handed to ONNX Runtime from the mapping. So neither
a model above protobuf's 2 GB nor many shapes of one model cost more than their weights once.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.tuning.bounds import Arithmetic, bound
from enginewright_runtime.engine import values
from enginewright_runtime.engine.values import Array, Value
from enginewright_runtime.errors import PlanError, UnsupportedError
from enginewright_runtime.plan import container
from enginewright_runtime.plan.container import Buffer
from enginewright_runtime.plan.manifest import Binding, Golden, GoldenTensor, Segment

LOCATION = "weights"  # the external file's name inside a segment: it exists nowhere, the host executor puts blobs there
SMALL = 1024  # bytes up to which an initializer stays in the model: shapes and axes, which inference must see
_DTYPES: Mapping[ir.DataType, str] = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT16: "uint16",
    ir.DataType.INT16: "int16",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.STRING: "string",
    ir.DataType.BOOL: "bool",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.DOUBLE: "float64",
    ir.DataType.UINT32: "uint32",
    ir.DataType.UINT64: "uint64",
    ir.DataType.COMPLEX64: "complex64",
    ir.DataType.COMPLEX128: "complex128",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.FLOAT8E4M3FN: "float8_e4m3fn",
    ir.DataType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    ir.DataType.FLOAT8E5M2: "float8_e5m2",
    ir.DataType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
}


class Blobs:
    """The blobs of a plan in the making, one for each content. Also what an executor reads candidates from."""

    def __init__(self) -> None:
        self.bytes: dict[str, Buffer] = {}
        self._by_content: dict[str, str] = {}

    def add(self, name: str, data: Buffer, digest: str = "") -> str:
        """Keep `data`; returns its blob's name: `name`, or that of an earlier blob with the same bytes. `digest` is its
        sha256 where that is known."""
        digest = digest or sha256(data).hexdigest()
        known = self._by_content.get(digest)
        if known is not None:
            return known
        unique = name if name not in self.bytes else f"{name}.{digest[:16]}"
        self.bytes[unique] = data
        self._by_content[digest] = unique
        return unique

    def blob(self, name: str) -> memoryview:
        """The bytes of a blob (the executors' seam). Raises PlanError if there is none."""
        try:
            return memoryview(self.bytes[name])
        except KeyError as error:
            raise PlanError(f"The plan in the making has no blob {name!r}.") from error

    def content(self) -> dict[str, bytes]:
        """All blobs by name, for a device session; a blob of a program is bytes already."""
        return {name: data for name, data in self.bytes.items() if isinstance(data, bytes)}

    def only(self, names: Sequence[str]) -> dict[str, Buffer]:
        """The blobs of these names, in the order in which they were added."""
        wanted = set(names)
        return {name: data for name, data in self.bytes.items() if name in wanted}


def segment(model: ir.Model, blobs: Blobs, name: str) -> Segment:
    """A model of ONNX operators as a host segment; its large initializers become blobs, and the model is spent."""
    weights: dict[str, dict[str, Any]] = {}
    large = _large(model)
    contents = [_bytes(tensor) for _, tensor in large]
    for (value, tensor), content, digest in zip(large, contents, container.digests(contents), strict=True):
        initializer = value.name or ""
        blob = blobs.add(f"weights/{initializer}", content, digest)
        shape = tuple(int(d) for d in tensor.shape if isinstance(d, int))
        weights[initializer] = {"blob": blob, "dtype": _DTYPES[tensor.dtype], "shape": list(shape)}
        value.const_value = ir.ExternalTensor(
            LOCATION, 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(shape), name=initializer, base_dir=""
        )
    _inline_the_rest(model, kept=weights)
    inputs = tuple(value.name or "" for value in model.graph.inputs)
    outputs = tuple(value.name or "" for value in model.graph.outputs)
    data = ir.to_proto(model).SerializeToString(deterministic=True)
    return Segment(
        executor="host",
        inputs=inputs,
        outputs=outputs,
        blob=blobs.add(name, data),
        options={"weights": weights} if weights else {},
    )


def _large(model: ir.Model) -> list[tuple[ir.Value, ir.TensorProtocol]]:
    """The initializers that become blobs, in their order; those that nobody reads leave the model."""
    found: list[tuple[ir.Value, ir.TensorProtocol]] = []
    for initializer, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del model.graph.initializers[initializer]  # ONNX Runtime drops it too, and then refuses to be given it
            continue
        tensor = value.const_value
        dtype = None if tensor is None else _DTYPES.get(tensor.dtype)
        if tensor is not None and tensor.nbytes > SMALL and dtype not in (None, values.STRING):
            found += [] if value.is_graph_input() else [(value, tensor)]
    return found


def binding(value: ir.Value) -> Binding:
    """An input or output of the network as the manifest has it. Raises UnsupportedError for a type no engine takes."""
    kind = value.type
    container = "tensor"
    if isinstance(kind, ir.SequenceType):
        container, kind = "sequence", kind.elem_type
    elif isinstance(kind, ir.OptionalType):
        container, kind = "optional", kind.elem_type
    if isinstance(kind, ir.SequenceType):
        kind = kind.elem_type
    dtype = _DTYPES.get(kind.dtype) if isinstance(kind, ir.TensorType) else None
    if dtype is None:
        raise UnsupportedError(
            f"The {'input' if value.is_graph_input() else 'output'} {value.name!r} is "
            f"{value.type or 'of unknown type'}, which an engine neither takes nor gives: cast it to a plain type."
        )
    shape = None
    if container == "tensor" and value.shape is not None:
        shape = tuple(d if isinstance(d, int) else -1 for d in value.shape)
    return Binding(name=value.name or "", dtype=dtype, shape=shape, container=container)


def goldens(
    schedule: int,
    feed: Mapping[str, Value],
    expected: Mapping[str, Value],
    kind: Arithmetic,
    blobs: Blobs,
) -> tuple[Golden, ...]:
    """The inputs and what the untouched model gives for them; one golden for each size of the bound.

    Outputs that are no tensors are left out: a golden holds none.
    """
    folder = f"goldens/{schedule}"
    inputs = {name: _golden(f"{folder}/in/{name}", value, blobs) for name, value in feed.items()}
    by_bound: dict[tuple[float, float], dict[str, GoldenTensor]] = {}
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            allowed = bound(value, kind)
            tensors = by_bound.setdefault((_rounded_up(allowed.absolute), allowed.relative), {})
            tensors[name] = _golden(f"{folder}/out/{name}", value, blobs)
    return tuple(
        Golden(schedule=schedule, inputs=inputs, outputs=outputs, absolute=absolute, relative=relative)
        for (absolute, relative), outputs in by_bound.items()
    )


def blobs_of(segments: Sequence[Segment], kept: Sequence[Golden]) -> list[str]:
    """The names of all blobs that these segments and goldens need."""
    names = [name for golden in kept for name in _golden_blobs(golden)]
    for each in segments:
        names += [each.blob, *(weight["blob"] for weight in each.options.get("weights", {}).values())]
        names += each.options.get("blobs", ())  # of a device program
    return names


def _inline_the_rest(model: ir.Model, *, kept: Mapping[str, object]) -> None:
    """External data of the model's own files that no blob took (small ones, those of bodies) comes into the model."""
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            ours = graph is model.graph and name in kept
            if isinstance(value.const_value, ir.ExternalTensor) and not ours:
                value.const_value = ir.external_data.convert_tensors_from_external([value.const_value])[0]
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type is ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                    (tensor,) = ir.external_data.convert_tensors_from_external([attribute.value])
                    node.attributes[name] = ir.AttrTensor(name, tensor)


def _golden(name: str, value: Value, blobs: Blobs) -> GoldenTensor:
    array = np.asarray(value)
    return GoldenTensor(
        blob=blobs.add(name, values.to_bytes(array)),
        dtype=values.name_of(array.dtype),
        shape=tuple(int(d) for d in array.shape),
    )


def _golden_blobs(golden: Golden) -> list[str]:
    return [tensor.blob for tensor in (*golden.inputs.values(), *golden.outputs.values())]


def _rounded_up(absolute: float) -> float:
    """To the next power of two, so that outputs of like size share a golden."""
    return 0.0 if absolute == 0 else float(2.0 ** np.ceil(np.log2(absolute)))


def _bytes(tensor: ir.TensorProtocol) -> Buffer:
    """A tensor's bytes, C order, little endian; without a copy where NumPy holds them so already."""
    array: Array = tensor.numpy()
    if array.dtype.byteorder == ">" or not array.flags.c_contiguous or array.nbytes != tensor.nbytes or not array.size:
        return tensor.tobytes()
    return array.reshape(-1).view(np.uint8).data
