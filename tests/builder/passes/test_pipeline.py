"""The law of passes, on networks that nobody thought of: outputs before are outputs after."""

import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts.placed import placed
from onnx import TensorProto, helper, numpy_helper

from enginewright_builder import passes
from enginewright_builder.network import layers, lowering
from enginewright_builder.passes import PIPELINE, gpu_pipeline
from enginewright_builder.passes.pad_channels import PadChannels
from enginewright_runtime.plan.recipe import Precision

CHANNELS = 4
SHAPE = [2, CHANNELS, 3, 3]
KINDS = (
    "Conv", "ConvTranspose", "BatchNormalization", "Relu", "Sigmoid", "Silu", "LeakyRelu", "Clip", "HardSigmoid",
    "AddConstant", "MulConstant", "Add", "Mul", "Identity", "Dropout", "Transpose",
    "ReshapeThroughShape", "Concat", "MatMul", "If",
)  # fmt: skip


class Grower:
    """Appends layers of one shape to a graph; every choice is drawn, every number seeded."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.generator = np.random.default_rng(11)
        self.values = ["x"]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: object, dtype: type = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def floats(self, *shape: int) -> str:
        return self.constant(self.generator.standard_normal(shape) * 0.5)

    def add(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def grow(self, kind: str, a: str, b: str, flag: bool) -> None:
        method = getattr(self, f"_{kind.lower()}", None)
        self.values.append(method(a, b, flag) if method else self.add(kind, [a]))

    def _conv(self, a: str, b: str, flag: bool) -> str:
        bias = [self.floats(CHANNELS)] if flag else []
        return self.add("Conv", [a, self.floats(CHANNELS, CHANNELS, 3, 3), *bias], pads=[1, 1, 1, 1])

    def _convtranspose(self, a: str, b: str, flag: bool) -> str:
        weights = self.floats(CHANNELS, CHANNELS // 2 if flag else CHANNELS, 3, 3)
        return self.add("ConvTranspose", [a, weights], pads=[1, 1, 1, 1], group=2 if flag else 1)

    def _batchnormalization(self, a: str, b: str, flag: bool) -> str:
        variance = self.constant(np.abs(self.generator.standard_normal(CHANNELS)) + 0.2)
        return self.add("BatchNormalization", [a, *(self.floats(CHANNELS) for _ in range(3)), variance])

    def _silu(self, a: str, b: str, flag: bool) -> str:
        return self.add("Mul", [a, self.add("Sigmoid", [a])])

    def _clip(self, a: str, b: str, flag: bool) -> str:
        if self.opset < 11:
            return self.add("Clip", [a], min=-0.5, max=0.75)
        return self.add("Clip", [a, self.constant(-0.5), self.constant(0.75)])

    def _addconstant(self, a: str, b: str, flag: bool) -> str:
        return self.add("Add", [a, self.floats(CHANNELS, 1, 1) if flag else self.constant(0)])

    def _mulconstant(self, a: str, b: str, flag: bool) -> str:
        return self.add("Mul", [self.floats(1, CHANNELS, 1, 1) if flag else self.constant(1), a])

    def _add(self, a: str, b: str, flag: bool) -> str:
        return self.add("Add", [a, b])

    def _mul(self, a: str, b: str, flag: bool) -> str:
        return self.add("Mul", [self.add("Tanh", [a]), b])

    def _transpose(self, a: str, b: str, flag: bool) -> str:
        return self.add("Transpose", [a], perm=[0, 1, 3, 2] if flag else [0, 1, 2, 3])

    def _reshapethroughshape(self, a: str, b: str, flag: bool) -> str:
        flat = self.add("Reshape", [a, self.constant([2, -1], np.int64)])
        return self.add("Reshape", [flat, self.add("Shape", [a])])

    def _concat(self, a: str, b: str, flag: bool) -> str:
        return self.add("Concat", [a], axis=1)

    def _matmul(self, a: str, b: str, flag: bool) -> str:
        product = self.add("MatMul", [a, self.floats(3, 3)])
        return self.add("Add", [product, self.floats(3)]) if flag else product

    def _if(self, a: str, b: str, flag: bool) -> str:
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        graphs = [helper.make_graph([helper.make_node(kind, [captured], ["o"])], kind, [], [out])
                  for kind, captured in (("Neg", a), ("Abs", b))]  # fmt: skip
        condition = self.constant(True, np.bool_) if flag else "condition"
        return self.add("If", [condition], then_branch=graphs[0], else_branch=graphs[1])


@st.composite
def models(draw):
    grower = Grower(draw(st.sampled_from([9, 11, 13, 17, 21])))
    for _ in range(draw(st.integers(1, 9))):
        a, b = (draw(st.sampled_from(grower.values[-3:])) for _ in range(2))
        grower.grow(draw(st.sampled_from(KINDS)), a, b, draw(st.booleans()))
    made = grower.values[1:]
    outputs = {made[-1], *draw(st.lists(st.sampled_from(made), max_size=2))}
    graph = helper.make_graph(
        grower.nodes,
        "grown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
         helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in sorted(outputs)],
        grower.constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", grower.opset)], ir_version=8)


class Whole:
    """The pipeline as one pass."""

    name = "pipeline"
    reason = "the law holds for all passes together"

    def apply(self, network):
        reports = passes.run(network)
        return passes.PassReport(name=self.name, changed=sum(report.changed for report in reports))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(model=models())
def test_the_pipeline_keeps_the_outputs_of_any_network(network_of, applied, model):
    applied(Whole(), network_of(model))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(model=models())
def test_the_gpus_pipeline_keeps_the_outputs_of_any_network_and_each_value_its_place(network_of, applied, model):
    network = network_of(model)
    for each in (*gpu_pipeline(Precision.FP32), PadChannels(stem=8)):
        applied(each, network)
    if not any(node.op_type == "If" for node in network.layers()):
        placed(network)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(model=models())
def test_any_network_in_float16_is_of_matching_types(network_of, model):
    network = network_of(model)
    passes.run(network, gpu_pipeline(Precision.FP16))
    lowered = ir.to_proto(lowering.to_onnx(network))
    onnx.checker.check_model(lowered, full_check=True)
    assert {value.dtype for value in (*network.inputs, *network.outputs)} <= {ir.DataType.FLOAT, ir.DataType.BOOL}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(model=models())
def test_each_pass_alone_keeps_the_outputs_of_any_network(network_of, applied, model):
    for each in PIPELINE:
        applied(each, network_of(model))


def test_a_second_run_finds_nothing_left_to_do(network_of):
    grower = Grower(17)
    for kind in ("Conv", "BatchNormalization", "Relu", "Identity", "Conv", "Add", "Silu", "ReshapeThroughShape", "If"):
        grower.grow(kind, grower.values[-1], grower.values[0], True)
    network = network_of(_close(grower))
    passes.run(network)
    assert [report.changed for report in passes.run(network)] == [0] * len(PIPELINE)


def test_every_pass_has_a_name_of_its_own_and_a_reason():
    names = {each.name for each in PIPELINE}
    assert len(names) == len(PIPELINE) - 1  # `unread` runs first and last
    assert all(each.reason for each in PIPELINE)


@pytest.mark.slow
def test_import_and_passes_take_time_in_proportion_to_the_layers(network_of):
    seconds = {}
    for size in (2_000, 20_000):
        grower = Grower(17)
        for index in range(size // 4):
            for kind in ("AddConstant", "Relu", "Identity", "Mul"):
                grower.grow(kind, grower.values[-1], grower.values[-1], bool(index % 2))
        started = time.process_time()
        network = network_of(_close(grower))
        passes.run(network)
        seconds[size] = time.process_time() - started
        assert layers.count(network) < size
    assert seconds[20_000] < 25 * seconds[2_000]


def _close(grower):
    graph = helper.make_graph(
        grower.nodes,
        "grown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(grower.values[-1], TensorProto.FLOAT, SHAPE)],
        grower.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", grower.opset)], ir_version=8)
