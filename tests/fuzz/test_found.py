"""What the fuzzer found in the importers, one test each."""

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from enginewright_builder.importers import table
from enginewright_builder.importers.tensorflow import schema
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_runtime.errors import ModelError, UnsupportedError
from enginewright_runtime.plan.recipe import ModelFormat

FUNCTION = (
    '<ir_version: 8, opset_import: ["" : 17, "l" : 1]> agraph (float[2] x) => (float[2] y) { y = l.f(x, x) }'
    ' <domain: "l", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) }'
)
SMALL = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y) { y = Relu(x) }'


def onnx_file(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def constant(folder: Path, **fields: object) -> Path:
    """A frozen graph of one constant."""
    node = schema.GraphDef().node.add(name="y", op="Const")
    node.attr["dtype"].type = fields.pop("dtype", 1)  # type: ignore[assignment]  # of a message without types
    node.attr["value"].tensor.dtype = node.attr["dtype"].type
    for size in fields.pop("shape"):  # type: ignore[attr-defined]  # as above
        node.attr["value"].tensor.tensor_shape.dim.add(size=size)
    path = folder / "model.pb"
    path.write_bytes(schema.GraphDef(node=[node]).SerializeToString())
    return path


def test_a_call_that_does_not_fit_its_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not valid ONNX: Input mismatch when inlining function"):
        table.read(ModelFormat.ONNX, onnx_file(tmp_path, onnx.parser.parse_model(FUNCTION)))


def test_a_name_with_a_line_break_leaves_one_line(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(SMALL)
    model.graph.node[0].op_type = "Re\nlu"
    with pytest.raises(UnsupportedError, match=r"does not know: Re\\nlu \(domain"):
        table.read(ModelFormat.ONNX, onnx_file(tmp_path, model))


def test_a_tensor_of_countless_axes_is_refused_at_once(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(SMALL)
    model.graph.initializer.add(name="w", data_type=1, dims=[1 << 62] * 100_000)
    with pytest.raises(ModelError, match="the tensor 'w' has 100000 axes, wanted 64 at most"):
        table.read(ModelFormat.ONNX, onnx_file(tmp_path, model))


def test_a_constant_of_countless_axes_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is none of a constant"):
        table.read(ModelFormat.TENSORFLOW, constant(tmp_path, shape=[1 << 62] * 100_000), outputs=("y",))


def test_one_value_is_not_spread_over_gigabytes(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="spreads 0 values over 1073741824 elements"):
        table.read(ModelFormat.TENSORFLOW, constant(tmp_path, shape=[1 << 30]), outputs=("y",))


def test_texts_that_are_not_given_are_empty(tmp_path: Path) -> None:
    network = table.read(ModelFormat.TENSORFLOW, constant(tmp_path, shape=[2], dtype=7), outputs=("y",))
    assert [value.name for value in network.outputs] == ["y"]


def test_inference_that_would_take_all_memory_leaves_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError("std::bad_alloc")

    network = Network(ir.serde.deserialize_model(onnx.parser.parse_model(SMALL)))
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", greedy)
    shapes.infer(network)
    assert [value.name for value in network.outputs] == ["y"]
