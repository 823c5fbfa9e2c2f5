"""Small plans for the runtime's tests, written from ONNX models with the plan package alone (no builder)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright_runtime.engine import available, values
from enginewright_runtime.plan import container
from enginewright_runtime.plan.manifest import Binding, Golden, GoldenTensor, Manifest, Schedule, Segment
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import Target, TargetKind, TargetRequirement

MakePlan = Callable[..., Path]


def bindings(graph_values: Any) -> tuple[Binding, ...]:
    """What an ONNX graph's inputs or outputs are as bindings (tensors with fixed shapes, sequences, optionals)."""
    return tuple(_binding(value) for value in graph_values)


def _binding(value: onnx.ValueInfoProto) -> Binding:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Binding(name=value.name, dtype="float32", shape=None, container=kind.removesuffix("_type"))
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    name = "string" if tensor.elem_type == TensorProto.STRING else dtype.name
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return Binding(name=value.name, dtype=name, shape=shape)


class Models:
    """Small ONNX models, as a fixture: test modules cannot import one another."""

    @staticmethod
    def small(batch: int = 2, *, weight: np.ndarray[Any, Any] | None = None) -> onnx.ModelProto:
        return small_model(batch, weight=weight)

    @staticmethod
    def one_node(operator: str, inputs: Any, outputs: Any, **attributes: Any) -> onnx.ModelProto:
        return one_node(operator, inputs, outputs, **attributes)

    @staticmethod
    def schedule(model: onnx.ModelProto, blob: str, options: Mapping[str, Any] | None = None) -> Schedule:
        return host_schedule(model, blob, options)


@pytest.fixture
def models() -> type[Models]:
    return Models


def small_model(batch: int = 2, *, weight: np.ndarray[Any, Any] | None = None) -> onnx.ModelProto:
    """`scores` = relu(x @ w), x float32 [batch, 4], scores float32 [batch, 3]."""
    w = np.arange(12, dtype=np.float32).reshape(4, 3) - 5 if weight is None else weight
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["scores"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(w, "w")],
    )
    return make_model(graph)


def one_node(
    operator: str,
    inputs: Mapping[str, tuple[int, Sequence[int]]],
    outputs: Mapping[str, tuple[int, Sequence[int]]],
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one layer; values are name: (TensorProto dtype, shape)."""
    node = helper.make_node(operator, list(inputs), list(outputs), **attributes)
    graph = helper.make_graph(
        [node],
        operator.lower(),
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in outputs.items()],
    )
    return make_model(graph)


def make_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def host_schedule(model: onnx.ModelProto, blob: str, options: Mapping[str, Any] | None = None) -> Schedule:
    """A schedule of one host segment that is the whole model."""
    inputs, outputs = bindings(model.graph.input), bindings(model.graph.output)
    segment = Segment(
        executor="host",
        inputs=tuple(binding.name for binding in inputs),
        outputs=tuple(binding.name for binding in outputs),
        blob=blob,
        options=options or {},
    )
    return Schedule(inputs=inputs, outputs=outputs, segments=(segment,))


def this_machine() -> Target:
    return available.describe_host()


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """Writes a plan of one or more models (one schedule each) and returns its path."""

    def make(
        *models: onnx.ModelProto,
        name: str = "small",
        options: Mapping[str, Any] | None = None,
        schedules: Sequence[Schedule] | None = None,
        blobs: Mapping[str, bytes] | None = None,
        goldens: Sequence[tuple[int, Mapping[str, Any], Mapping[str, Any]]] = (),
        target: Target | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> Path:
        stored: dict[str, bytes] = {f"segments/{i}.onnx": m.SerializeToString() for i, m in enumerate(models)}
        stored |= dict(blobs or {})
        kept = tuple(_golden(i, golden, stored) for i, golden in enumerate(goldens))
        recipe = Recipe(model="sha256:" + "0" * 64, target=TargetRequirement(kind=TargetKind.CPU), builder="0.1.0")
        made = [host_schedule(model, f"segments/{i}.onnx", options) for i, model in enumerate(models)]
        manifest = Manifest(
            recipe=recipe,
            digest=recipe.digest,
            target=target or this_machine(),
            builder="0.1.0",
            schedules=tuple(schedules if schedules is not None else made),
            blobs=container.layout(stored),
            goldens=kept,
            report=report or {},
        )
        path = tmp_path / f"{name}.plan"
        container.write(path, manifest, stored)
        return path

    return make


def _golden(index: int, golden: tuple[int, Mapping[str, Any], Mapping[str, Any]], stored: dict[str, bytes]) -> Golden:
    schedule, inputs, outputs = golden

    def keep(name: str, array: np.ndarray[Any, Any]) -> GoldenTensor:
        blob = f"goldens/{index}/{name}"
        stored[blob] = values.to_bytes(array)
        return GoldenTensor(blob=blob, dtype=values.name_of(array.dtype), shape=array.shape)

    return Golden(
        schedule=schedule,
        inputs={name: keep(name, array) for name, array in inputs.items()},
        outputs={name: keep(name, array) for name, array in outputs.items()},
        absolute=1e-5,
        relative=1e-5,
    )
