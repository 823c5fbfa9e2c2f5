"""What the tests of formulas share: one ONNX node, lowered and evaluated by the reference, beside ONNX Runtime."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewright_builder.device import reference
from enginewright_builder.device.operators.layer import Layer, Operand
from enginewright_builder.device.operators.table import OPERATORS
from enginewright_runtime.engine.values import name_of

Array = np.ndarray[Any, Any]
Given = Sequence[Array | None]


def layer_of(
    operator: str, inputs: Given, outputs: Sequence[Any], *, opset: int = 21, constant: Sequence[int] = (), **rest: Any
) -> Layer:
    """A layer of these inputs, of which those numbered in `constant` are known when it is built."""
    return Layer(
        operator=operator,
        opset=opset,
        attributes=rest,
        inputs=tuple(
            None
            if value is None
            else Operand(dtype=name_of(value.dtype), shape=value.shape, constant=value if n in constant else None)
            for n, value in enumerate(inputs)
        ),
        outputs=tuple(None if output is None else Operand(dtype=output[0], shape=output[1]) for output in outputs),
    )


@pytest.fixture
def lowered() -> Callable[..., list[Array]]:
    """lowered(operator, inputs, outputs as (dtype, shape), opset=, constant=, **attributes): the reference's arrays."""

    def evaluate(operator: str, inputs: Given, outputs: Sequence[Any], **rest: Any) -> list[Array]:
        computations = OPERATORS["", operator](layer_of(operator, inputs, outputs, **rest))
        return [reference.evaluate(computation, inputs) for computation in computations]

    return evaluate


def by_onnxruntime(
    operator: str, inputs: Given, *, outputs: int = 1, opset: int = 21, **attributes: Any
) -> list[Array]:
    """What ONNX Runtime gives for one node."""
    names = ["" if value is None else f"x{n}" for n, value in enumerate(inputs)]
    made = [f"y{n}" for n in range(outputs)]
    feeds = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if value is not None}
    node = onnx.helper.make_node(operator, names, made, **attributes)
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    graph = onnx.helper.make_graph([node], "one", given, [onnx.ValueInfoProto(name=name) for name in made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(made, feeds)
    return results


@pytest.fixture
def agrees(lowered: Callable[..., list[Array]]) -> Callable[..., None]:
    """agrees(operator, *inputs, outputs=, opset=, constant=, rtol=, **attributes): as ONNX Runtime, shape and type."""

    def check(
        operator: str,
        *inputs: Array | None,
        outputs: int = 1,
        opset: int = 21,
        constant: Sequence[int] = (),
        rtol: float = 2e-6,
        atol: float = 1e-6,
        **attributes: Any,
    ) -> None:
        wanted = by_onnxruntime(operator, inputs, outputs=outputs, opset=opset, **attributes)
        kinds = [(name_of(each.dtype), each.shape) for each in wanted]
        found = lowered(operator, inputs, kinds, opset=opset, constant=constant, **attributes)
        assert len(found) == len(wanted)
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)

    return check


@pytest.fixture
def numbers() -> Callable[..., Array]:
    """numbers(*shape, dtype=, seed=): normal numbers, or small whole ones; the same every time."""

    def made(*shape: int, dtype: Any = np.float32, seed: int = 3) -> Array:
        generator = np.random.default_rng([seed, *shape])
        kind = np.dtype(dtype).kind
        if kind == "f":
            return np.asarray(generator.standard_normal(shape)).astype(dtype)
        lowest, highest = {"b": (0, 2), "u": (0, 10)}.get(kind, (-9, 10))
        return np.asarray(generator.integers(lowest, highest, shape)).astype(dtype)

    return made
