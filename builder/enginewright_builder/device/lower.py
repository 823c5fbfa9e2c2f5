"""The layers of a finished network as problems: what each computes, over which operands, with which constants. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.device import tensors, windows
from enginewright_builder.device.implementation import Array
from enginewright_builder.device.layout import Place
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.network import fused
from enginewright_builder.network.extract import alone
from enginewright_builder.network.network import FUSED_DOMAIN, Network, is_constant, static_shape
from enginewright_builder.network.tail import texts
from enginewright_builder.plugins import layers
from enginewright_runtime.plugins.definition import Plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLayer:
    """A layer that launches something. `inputs` and `outputs` are value names in the problem's order, None where an
    optional one is absent; `constants` are the values of its constant inputs as the problem sees them (transposed,
    broadcast), `stored` as they lie in memory, in C order; `types` says how its other operands lie in memory, by name,
    which a product's problem may see otherwise; `network` is the layer alone."""

    name: str
    problem: Problem
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    constants: Mapping[int, Array]
    stored: Mapping[int, Array]
    types: Mapping[str, TensorType]
    network: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    kind: Kind
    inputs: tuple[ir.Value | None, ...]
    attributes: Mapping[str, Any]
    types: Mapping[int, TensorType]  # operands that are seen otherwise than as they lie (transposed, broadcast)


def lower(network: Network, places: Mapping[str, Place], free: frozenset[str], *, math: str = "") -> list[DeviceLayer]:
    """The network's layers in order, without those that are views. `free` names the outputs of the latter.

    `math` is "tf32" where float32 products may be rounded to it. Raises Declined for a layer with a body.
    """
    made: list[DeviceLayer] = []
    for node in network.layers():
        if all(output.name in free for output in node.outputs if output.name):
            continue
        made.append(_lower(network, node, places, math))
    return made


def _lower(network: Network, node: ir.Node, places: Mapping[str, Place], math: str) -> DeviceLayer:
    describe = _DESCRIBE.get((node.domain, node.op_type))
    said = describe(network, node, places) if describe is not None else None
    if said is None:
        said = _computation(node, layers.plugin_of(network.plugins, node))
    outputs = tuple(value for value in node.outputs if value.name)
    types = tuple(
        said.types.get(index, None if value is None else _type(value, places))
        for index, value in enumerate(said.inputs)
    )
    attributes = {**said.attributes, **({"math": math} if math and said.kind in _PRODUCTS else {})}
    problem = Problem(
        kind=said.kind,
        inputs=types,
        outputs=tuple(_type(value, places) for value in outputs),
        attributes=attributes,
    )
    stored = {
        index: value.const_value.numpy()
        for index, value in enumerate(said.inputs)
        if value is not None and is_constant(value) and value.const_value is not None
    }
    constants = {index: _seen(array, types[index]) for index, array in stored.items()}
    return DeviceLayer(
        name=node.name or node.op_type,
        problem=problem,
        inputs=tuple(None if value is None else value.name or "" for value in said.inputs),
        outputs=tuple(value.name or "" for value in outputs),
        constants=constants,
        stored=stored,
        types={v.name: _type(v, places) for v in (*said.inputs, *outputs) if v is not None and v.name},
        network=alone(network, node),
    )


def _seen(array: Array, kind: TensorType | None) -> Array:
    """A constant in its problem's shape: the strides say how it lies in memory."""
    if kind is None:
        return array
    strides = tuple(stride * array.itemsize for stride in kind.strides)
    return np.lib.stride_tricks.as_strided(np.ascontiguousarray(array), kind.shape, strides, writeable=False)


def _type(value: ir.Value, places: Mapping[str, Place]) -> TensorType:
    place = places.get(value.name or "")
    if place is not None:
        return place.type
    binding = emit.binding(value)
    return tensors.plain(binding.dtype, binding.shape or ())


def _convolution(_network: Network, node: ir.Node, _places: Mapping[str, Place]) -> _Described | None:
    x, weights, bias, residual = fused.padded_inputs(node)
    shape, kernel = static_shape(x), static_shape(weights)
    if shape is None or kernel is None or len(shape) != len(kernel):
        return None
    geometry = windows.of_convolution(node, shape, kernel)
    attributes: dict[str, Any] = {
        "strides": geometry.strides,
        "pads": geometry.pads,
        "dilations": geometry.dilations,
        "groups": node.attributes.get_int("group", 1),
        **_epilogue(node),
    }
    inputs: tuple[ir.Value | None, ...] = (x, weights, bias, residual)
    if (pair := fused.pair_of(node)) is not None:
        attributes["pair"] = {"strides": pair.strides, "pads": pair.pads}
        inputs = (*inputs, *node.inputs[4:6])
    if (pool := fused.pool_of(node)) is not None:
        attributes["pool"] = {"kernel": pool.kernel, "strides": pool.strides, "pads": pool.pads}
    if fused.in_halves(node):
        attributes["halves"] = True
    kind = Kind.CONVOLUTION
    if node.op_type in ("ConvTranspose", "FusedConvTranspose"):
        if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
            return None  # its padding depends on the output: the operator's own expression knows
        kind = Kind.TRANSPOSED_CONVOLUTION
        attributes["output_padding"] = tuple(node.attributes.get_ints("output_padding", (0,) * (len(shape) - 2)))
    return _Described(kind=kind, inputs=inputs, attributes=attributes, types={})


def _epilogue(node: ir.Node) -> dict[str, Any]:
    epilogue = fused.epilogue_of(node)
    return {
        "activation": epilogue.activation,
        "activation_parameters": dict(sorted(epilogue.parameters.items())),
        "gated": epilogue.gated,
        **({"tail": texts(epilogue.tail)} if epilogue.tail else {}),
    }


def _attention(_network: Network, node: ir.Node, _places: Mapping[str, Place]) -> _Described:
    inputs = (*node.inputs, None)[:4]
    attributes = {"scale": node.attributes.get_float("scale", 1.0), "causal": False}
    return _Described(kind=Kind.ATTENTION, inputs=inputs, attributes=attributes, types={})


def _product(_network: Network, node: ir.Node, places: Mapping[str, Place]) -> _Described | None:
    a, b, bias, residual = fused.padded_inputs(node)
    if a is None or b is None:
        return None
    alpha = node.attributes.get_float("alpha", 1.0) * fused.epilogue_of(node).scale
    if node.attributes.get_float("beta", 1.0) != 1.0:
        return None
    types = {0: _type(a, places), 1: _type(b, places)}
    if min(len(types[0].shape), len(types[1].shape)) < 2:
        return None
    for index, name in ((0, "transA"), (1, "transB")):
        if node.attributes.get_int(name, 0):
            types[index] = _transposed(types[index])
    batch = _type(node.outputs[0], places).shape[:-2]
    types = {index: _broadcast(kind, batch) for index, kind in types.items()}
    attributes = {"alpha": alpha, **_epilogue(node)}
    return _Described(kind=Kind.PRODUCT, inputs=(a, b, bias, residual), attributes=attributes, types=types)


def _transposed(kind: TensorType) -> TensorType:
    return TensorType(
        dtype=kind.dtype,
        shape=(*kind.shape[:-2], kind.shape[-1], kind.shape[-2]),
        strides=(*kind.strides[:-2], kind.strides[-1], kind.strides[-2]),
    )


def _broadcast(kind: TensorType, batch: tuple[int, ...]) -> TensorType:
    """The same matrices for every product of the batch: the stride of a repeated dimension is 0."""
    missing = len(batch) - (len(kind.shape) - 2)
    shape, strides = (1,) * missing + kind.shape, (0,) * missing + kind.strides
    repeated = [have != want for have, want in zip(shape, batch, strict=False)]
    return TensorType(
        dtype=kind.dtype,
        shape=(*batch, *shape[-2:]),
        strides=(*(0 if again else s for again, s in zip(repeated, strides, strict=False)), *strides[-2:]),
    )


def _computation(node: ir.Node, own: Plugin | None) -> _Described:
    """Whatever the operator's own expression says. What it is, is part of the problem: the layer's text."""
    attributes = sorted((name, _text(attribute)) for name, attribute in node.attributes.items())
    settled = [_small(value) for value in node.inputs]
    text = f"{node.domain}.{node.op_type} {attributes} {settled}"
    if own is not None:
        text += sha256(own.source).hexdigest()  # its code is what is computed
    return _Described(
        kind=Kind.COMPUTATION,
        inputs=tuple(node.inputs),
        attributes={"operator": node.op_type, "expression": sha256(text.encode()).hexdigest()[:16]},
        types={},
    )


def _small(value: ir.Value | None) -> str:
    """A constant that decides what is computed (axes, a shape, a bound) rather than being computed with."""
    if value is None or not is_constant(value) or value.const_value is None or value.const_value.nbytes > emit.SMALL:
        return ""
    return sha256(value.const_value.tobytes()).hexdigest()


def _text(attribute: ir.Attr) -> str:
    value = attribute.value
    if isinstance(value, ir.TensorProtocol):
        return sha256(value.tobytes()).hexdigest()
    return str(value)


_Describe = Callable[[Network, ir.Node, Mapping[str, Place]], _Described | None]
_DESCRIBE: Mapping[tuple[str, str], _Describe] = {
    ("", "Conv"): _convolution,
    ("", "ConvTranspose"): _convolution,
    (FUSED_DOMAIN, "FusedConv"): _convolution,
    (FUSED_DOMAIN, "FusedConvTranspose"): _convolution,
    (FUSED_DOMAIN, "Attention"): _attention,
    ("", "MatMul"): _product,
    ("", "Gemm"): _product,
    (FUSED_DOMAIN, "FusedMatMul"): _product,
    (FUSED_DOMAIN, "FusedGemm"): _product,
}
_PRODUCTS = frozenset({Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.PRODUCT, Kind.ATTENTION})
