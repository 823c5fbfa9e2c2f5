"""What the fuzzer found in the importers, one test each."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from enginewright_builder import passes
from enginewright_builder.importers import table
from enginewright_builder.importers.tensorflow import schema
from enginewright_builder.network import inference, rewire, shapes
from enginewright_builder.network.network import Network
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_runtime.errors import ModelError, UnsupportedError
from enginewright_runtime.plan.recipe import ModelFormat

sys.path.insert(0, str(Path(__file__).resolve().parent))  # tests are no packages
import seeds

FUNCTION = (
    '<ir_version: 8, opset_import: ["" : 17, "l" : 1]> agraph (float[2] x) => (float[2] y) { y = l.f(x, x) }'
    ' <domain: "l", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) }'
)
END = "s = ReduceSum<keepdims = 0>(w) f = Cast<to = 1>(s) y = Add(x, f)"
SMALL = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y) { y = Relu(x) }'


def peak() -> int:
    """Bytes that this process ever held."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) << 10


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


def outside(folder: Path, **fields: object) -> Path:
    """A model of one tensor that lies in a file beside it."""
    model = onnx.parser.parse_model(SMALL)
    tensor = model.graph.initializer.add(name="w", dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.data_type = fields.pop("dtype", 1)  # type: ignore[assignment]  # of a message without types
    tensor.external_data.add(key="location", value=fields.pop("location", "weights.bin"))
    (folder / "weights.bin").write_bytes(bytes(16))
    return onnx_file(folder, model)


@pytest.mark.parametrize("number", [0, -1, 255])
def test_a_tensor_outside_of_no_known_type_is_refused(number: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"the tensor 'w' is of the type {number}, of which no file holds elements"):
        table.read(ModelFormat.ONNX, outside(tmp_path, dtype=number))


def test_a_file_name_that_no_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"in the file 'é+…, a name that no file has: export it again\.$"):
        table.read(ModelFormat.ONNX, outside(tmp_path, location="é" * 300))


def test_an_attribute_of_a_function_outside_of_one_is_refused(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(seeds.ONNX_TEXTS["a loop"])
    model.graph.node[0].attribute[0].ref_attr_name = "x"
    with pytest.raises(ModelError, match=r"layer 'Loop' takes its attribute 'body' from a function, and stands in no"):
        table.read(ModelFormat.ONNX, onnx_file(tmp_path, model))


def frozen(folder: Path, *nodes: tuple[str, str, Sequence[str]], **attributes: Mapping[str, Any]) -> Path:
    """A frozen graph of a placeholder x and these nodes; attributes by the node's name."""
    graph = schema.GraphDef()
    graph.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    for name, op, inputs in nodes:
        node = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.get(name, {}).items():
            setattr(node.attr[key], "type" if key == "dtype" else "i", value)
    path = folder / "model.pb"
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("op", "inputs", "takes"),
    [("Switch", ["x"], 2), ("Switch", ["x"] * 3, 2), ("NextIteration", [], 1), ("Enter", [], 1), ("Identity", [], 1)],
)
def test_a_part_of_a_loop_without_its_inputs_is_refused(op: str, inputs: list[str], takes: int, tmp_path: Path) -> None:
    path = frozen(tmp_path, ("y", op, inputs))
    with pytest.raises(ModelError, match=rf"operation 'y' \({op}\) has {len(inputs)} inputs and takes {takes}"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("y",))


def test_a_conditional_on_what_is_missing_is_refused(tmp_path: Path) -> None:
    path = frozen(tmp_path, ("side", "Switch", ["x", "gone"]), ("y", "Merge", ["side", "side:1"]))
    with pytest.raises(ModelError, match="side reads 'gone', which is not in it"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("y",))


def test_texts_are_not_computed_with(tmp_path: Path) -> None:
    path = frozen(tmp_path, ("y", "Relu6", ["x"]), y={"dtype": 1})
    graph = schema.GraphDef.FromString(path.read_bytes())
    graph.node[1].attr["T"].type = 7
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UnsupportedError, match="the operation 'y' computes with texts"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("y",))


def test_an_array_of_tensors_is_no_tensor(tmp_path: Path) -> None:
    path = frozen(tmp_path, ("rows", "TensorArrayV3", ["x"]), ("y", "Relu", ["rows"]))
    with pytest.raises(UnsupportedError, match="'y' reads an array of tensors as if it were one: stack it before"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("y",))


def test_a_vector_of_billions_is_not_held_as_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.parser.parse_model(SMALL.replace("float[2]", "int64[4294967295]").replace("Relu(x)", "Mul(x, x)"))
    asked: list[bool] = []
    monkeypatch.setattr(inference, "infer", lambda model, *, elements: asked.append(elements) or model)
    shapes.infer(Network(ir.serde.deserialize_model(model)))
    assert asked == [False]


@pytest.mark.parametrize(
    "layers",
    [
        f"<int64 b = {{0}}, int64 e = {{{1 << 31}}}, int64 d = {{1}}> {{ v = Range(b, e, d) w = Mul(v, v) {END} }}",
        f"<int64[1] n = {{{1 << 31}}}, int64 one = {{1}}> {{ v = Expand(one, n) w = Add(v, v) {END} }}",
        f"<int64[1] n = {{{1 << 31}}}> {{ v = ConstantOfShape(n) w = Sub(v, v) {END} }}",
        f"<int64[1] one = {{1}}, int64[1] n = {{{1 << 31}}}> {{ v = Tile(one, n) w = Concat<axis = 0>(v, v) {END} }}",
    ],
    ids=["Range", "Expand", "ConstantOfShape", "Tile"],
)
def test_a_vector_of_billions_that_arises_takes_no_memory_here(layers: str, tmp_path: Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y) '
    before = peak()
    network = table.read(ModelFormat.ONNX, onnx_file(tmp_path, onnx.parser.parse_model(head + layers)))
    (report,) = passes.run(network, [FoldConstants()])
    assert re.search("its result of [0-9]{10,} bytes would make the plan grow", report.declined[0])
    assert peak() - before < 64 << 20


def test_a_split_into_countless_parts_is_refused_at_once(tmp_path: Path) -> None:
    path = frozen(tmp_path, ("y", "Unpack", ["x"]), y={"num": (1 << 31) - 1})
    with pytest.raises(UnsupportedError, match="has 2147483647 outputs of 'y', wanted 4096 at most"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("y",))


def test_countless_layers_of_functions_are_refused(tmp_path: Path) -> None:
    path = frozen(tmp_path, *((f"y{number}", "PartitionedCall", ["x"]) for number in range(200)))
    graph = schema.GraphDef.FromString(path.read_bytes())
    function = graph.library.function.add()
    function.signature.name = "f"
    function.signature.input_arg.add(name="a", type=1)
    function.signature.output_arg.add(name="r", type=1)
    function.ret["r"] = "n999:y:0"
    for number in range(1000):
        function.node_def.add(name=f"n{number}", op="Neg", input=[f"n{number - 1}:y:0" if number else "a"])
    for node in graph.node[1:]:
        node.attr["f"].func.name = "f"
    graph.node.add(name="z", op="AddN", input=[node.name for node in graph.node[1:]])
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UnsupportedError, match=r"makes more than 131072 tensors, at 'n\d+'"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("z",))


def test_a_shape_of_countless_dimensions_is_refused_at_once(tmp_path: Path) -> None:
    path = constant(tmp_path, shape=[1 << 20], dtype=3)
    graph = schema.GraphDef.FromString(path.read_bytes())
    graph.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    graph.node.add(name="z", op="Fill", input=["y", "x"])
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UnsupportedError, match=r"'z' \(Fill\) makes a tensor of 1048576 dimensions, wanted 64 at most"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("z",))


def test_many_values_are_not_spread_over_gigabytes_either(tmp_path: Path) -> None:
    path = constant(tmp_path, shape=[1 << 24])
    graph = schema.GraphDef.FromString(path.read_bytes())
    names = [f"c{number}" for number in range(8)]
    for name in names:
        graph.node.add().CopyFrom(graph.node[0])
        graph.node[-1].name = name
    graph.node.add(name="z", op="AddN", input=names)
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UnsupportedError, match=r"spreads its constants over more than \d+, at 'c"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("z",))


def test_inference_that_dies_leaves_the_network_as_it_is_and_the_next_is_inferred(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inference.end()
    with monkeypatch.context() as patched:
        patched.setattr(inference, "COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
        network = Network(ir.serde.deserialize_model(onnx.parser.parse_model(SMALL)))
        shapes.infer(network)
        assert [value.name for value in network.outputs] == ["y"]
    assert inference.infer(onnx.parser.parse_model(SMALL).SerializeToString(), elements=True)


def external_weights(folder: Path, location: str = "w.bin", dims: Sequence[int] = (2,)) -> bytes:
    """A model of one tensor outside, and the file of it."""
    (folder / "w.bin").write_bytes(bytes(8))
    model = onnx.parser.parse_model(SMALL)
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=dims, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    data: bytes = model.SerializeToString()
    return data


def test_a_file_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(external_weights(tmp_path, "w.bin").replace(b"w.bin", b"w\xffbin"))
    with pytest.raises(ModelError, match="whose name is no text"):
        table.read(ModelFormat.ONNX, tmp_path / "model.onnx")


def test_a_size_below_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(external_weights(tmp_path, dims=(-(1 << 63), 4)))
    with pytest.raises(ModelError, match="wanted no size below 0"):
        table.read(ModelFormat.ONNX, tmp_path / "model.onnx")


def test_an_equation_of_other_signs_is_refused_before_inference_looks_for_its_end(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(SMALL.replace("Relu(x)", 'Einsum<equation = "p P@">(x)'))
    with pytest.raises(ModelError, match="wanted letters, commas, dots and an arrow"):
        table.read(ModelFormat.ONNX, onnx_file(tmp_path, model))


def test_what_only_onnx_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(model: object) -> None:
        raise ValueError("Unable to parse proto from the given bytes")

    monkeypatch.setattr(onnx.checker, "check_model", strict)
    with pytest.raises(ModelError, match="ONNX's checker cannot read it"):
        table.read(ModelFormat.ONNX, onnx_file(tmp_path, onnx.parser.parse_model(SMALL)))


def test_a_branch_without_an_output_that_its_layer_has_stays_a_branch(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y) { y = Add(x, t) }'
    model = onnx.parser.parse_model(text)
    branch = onnx.parser.parse_graph("b () => (float[2] o) { o = Constant<value = float[2] {1, 2}>() }")
    truth = onnx.helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.array(True)))
    both = onnx.helper.make_node("If", ["c"], ["t", "u"], then_branch=branch, else_branch=branch)
    model.graph.node.insert(0, truth)
    model.graph.node.insert(1, both)
    network = Network(ir.serde.deserialize_model(model))
    FoldConstants().apply(network)
    assert [node.op_type for node in network.layers()] == ["If", "Add"]


def test_a_layer_spread_over_devices_that_nobody_names_is_computed_on_one(tmp_path: Path) -> None:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y) '
                                    "<float[2] w = {1, 4}> { r = Sqrt(w) y = Add(x, r) }")  # fmt: skip
    model.graph.node[0].device_configurations.add()
    network = table.read(ModelFormat.ONNX, onnx_file(tmp_path, model))
    assert "an engine runs on one" in network.notes[0]
    FoldConstants().apply(network)
    assert [node.op_type for node in network.layers()] == ["Add"]


def test_a_constant_whose_value_is_a_type_stays_a_layer(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(SMALL)
    name = model.graph.node[-1].output[0]
    made = onnx.helper.make_node("Constant", [], ["c"])
    made.attribute.add(name="value", type=onnx.AttributeProto.TYPE_PROTO, tp=onnx.helper.make_tensor_type_proto(1, [2]))
    model.graph.node.append(onnx.helper.make_node("Add", [name, "c"], ["z"]))
    model.graph.node.insert(0, made)
    model.graph.output[0].name = "z"
    network = Network(ir.serde.deserialize_model(model))
    rewire.lift_constants(network)
    assert next(iter(network.layers())).op_type == "Constant"


def test_a_size_that_no_number_holds_is_left_to_be_computed(tmp_path: Path) -> None:
    absurd = 1 << 40
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{absurd},{absurd}] x) => (int64 y) '
        "{ s = Size(x) y = Neg(s) }"
    )
    network = table.read(ModelFormat.ONNX, onnx_file(tmp_path, onnx.parser.parse_model(text)))
    FoldConstants().apply(network)
    assert [node.op_type for node in network.layers()] == ["Size", "Neg"]


def test_a_constant_cut_into_no_parts_is_refused(tmp_path: Path) -> None:
    path = frozen(
        tmp_path, ("axis", "Const", []), ("c", "Const", []), ("y", "Split", ["axis", "c"]), y={"num_split": 0}
    )
    graph = schema.GraphDef.FromString(path.read_bytes())
    for node in graph.node:
        if node.op == "Const":
            node.attr["value"].tensor.dtype = 3
            node.attr["value"].tensor.int_val.extend([0] if node.name == "axis" else [1, 2])
    next(node for node in graph.node if node.name == "c").attr["value"].tensor.tensor_shape.dim.add(size=2)
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match=r"the operation 'y' \(Split\) cannot be read"):
        table.read(ModelFormat.TENSORFLOW, path, outputs=("y",))
