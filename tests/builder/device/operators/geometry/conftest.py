"""What these tests share: one layer, from a model to its stages and the NumPy reference, held against ONNX Runtime."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewright_builder.device import reference, stages
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network

Array = np.ndarray[Any, Any]
Given = Sequence[Array | None]
OneLayer = tuple[Network, onnx.ModelProto, dict[str, Array]]


@pytest.fixture
def network_of_one(tmp_path: Path) -> Callable[..., OneLayer]:
    """The network of one layer, its model and the feeds; inputs at the positions `settled` are constants."""

    def make(operator: str, given: Given, *, settled: Collection[int] = (), outputs: int = 1, opset: int = 20,
             **attributes: Any) -> OneLayer:  # fmt: skip
        names = ["" if array is None else f"i{position}" for position, array in enumerate(given)]
        results = [f"o{position}" for position in range(outputs)]
        arrays = {name: array for name, array in zip(names, given, strict=True) if array is not None}
        fed = {name: array for name, array in arrays.items() if int(name[1:]) not in settled}
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(operator, names, results, name="layer", **attributes)],
            "one",
            [onnx.helper.make_tensor_value_info(name, _type(array), array.shape) for name, array in fed.items()],
            [onnx.ValueInfoProto(name=name) for name in results],
            [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if name not in fed],
        )
        imports = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return from_onnx.load(path), model, fed

    return make


@pytest.fixture
def agrees(network_of_one: Callable[..., OneLayer]) -> Callable[..., None]:
    """Hold a layer's lowering against ONNX Runtime: equal integers, floating-point numbers to 1e-4 of their size."""

    def check(operator: str, given: Given, *, tolerance: float = 1e-4, **options: Any) -> None:
        network, model, fed = network_of_one(operator, given, **options)
        for made, wanted in zip(computed(network, fed), right(model, fed), strict=True):
            assert (made.dtype, made.shape) == (wanted.dtype, wanted.shape)
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(made, wanted, rtol=tolerance, atol=tolerance)
            else:
                np.testing.assert_array_equal(made, wanted)

    return check


def computed(network: Network, fed: dict[str, Array]) -> list[Array]:
    """The outputs, stage by stage."""
    staged = stages.staged(network)
    values: dict[str, Any] = {**staged.constants, **fed}
    for stage in staged.stages:
        operands = [None if held is None else values[held.name] for held in stage.inputs]
        values[stage.output.name] = reference.evaluate(stage.computation, operands)
    return [values[value.name or ""] for value in network.outputs]


def right(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """ONNX Runtime without its own optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, feeds)
    return results


def _type(array: Array) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
