"""Sound models of every format, small and of many kinds, for the fuzzer to damage."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from enginewright_builder.importers.caffe import schema as caffe_schema
from enginewright_builder.importers.tensorflow import schema as tensorflow_schema
from enginewright_runtime.plan.recipe import ModelFormat

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "builder/importers/caffe"), str(TESTS / "backend")]  # tests are no packages
import caffe_files  # noqa: E402  # the path comes first
import node_tests  # noqa: E402

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '
ONNX_TEXTS = {
    "branches": HEAD
    + "(bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) },"
    " else_branch = e () => (float[2] b) { b = Neg(x) }> }",
    "a loop": HEAD
    + "(int64 n, bool c, float[2] x) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool g, float[2] s)"
    " => (bool o, float[2] t) { o = Identity(g) t = Add(s, s) }> }",
    "functions": '<ir_version: 8, opset_import: ["" : 17, "l" : 1]> agraph (float[2] x) => (float[2] y) { y = l.f(x) }'
    ' <domain: "l", opset_import: ["" : 17, "l" : 1]> f (a) => (b) { c = l.g(a) b = Neg(c) }'
    ' <domain: "l", opset_import: ["" : 17]> g (a) => (b) { b = Relu(a) }',
    "lengths": HEAD
    + "(float[2] x) => (float[n] y) <int64 b = {0}, int64 e = {4}, int64 d = {1}, int64[1] n = {4}, float o = {1}>"
    " { r = Range(b, e, d) q = Mul(r, r) c = ConstantOfShape(n) t = Tile(c, n) f = Expand(o, n) g = Add(f, t)"
    " i = Concat<axis = 0>(q, q) h = Cast<to = 1>(i) j = Concat<axis = 0>(x, g, h) y = Identity(j) }",
    "free shapes": HEAD
    + "(float[batch, 3, h, w] x) => (float[batch, n] y) <float[4, 3, 1, 1] k = {1,2,3,4,5,6,7,8,9,10,11,12}>"
    " { a = Conv(x, k) b = GlobalAveragePool(a) y = Flatten(b) }",
}


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a file is read as a message and written again."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes] = lambda message: message.SerializePartialToString(deterministic=True)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A model: its files by name, of which `model` is the first to be read. Files without a form are only bytes."""

    name: str
    kind: ModelFormat
    files: Mapping[str, bytes]
    forms: Mapping[str, Form]
    model: str
    companion: str = ""
    outputs: tuple[str, ...] = ()
    messages: dict[str, Any] = field(default_factory=dict)

    def message(self, name: str) -> Any:
        """A file as a message, read once."""
        if name not in self.messages:
            self.messages[name] = self.forms[name].read(self.files[name])
        return self.messages[name]


@cache
def seeds(kind: ModelFormat) -> tuple[Seed, ...]:
    """All of a format."""
    return tuple(_MAKERS[kind]())


def _onnx() -> Iterator[Seed]:
    forms = {"model.onnx": Form(read=onnx.ModelProto.FromString)}
    models = {name: onnx.parser.parse_model(text) for name, text in ONNX_TEXTS.items()}
    models |= {case.name: case.model for case in node_tests.selection()}
    for name, model in models.items():
        files = {"model.onnx": model.SerializeToString()}
        yield Seed(name=name, kind=ModelFormat.ONNX, files=files, forms=forms, model="model.onnx")
    for copy in range(12):  # as often as other things together, for what lies outside is the most dangerous
        files = {"model.onnx": _external().SerializeToString(), "weights.bin": bytes(range(64))}
        yield Seed(name=f"external {copy}", kind=ModelFormat.ONNX, files=files, forms=forms, model="model.onnx")


def _external() -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _tensorflow() -> Iterator[Seed]:
    graph, saved = (Form(read=each.FromString) for each in (tensorflow_schema.GraphDef, tensorflow_schema.SavedModel))
    for path in sorted((TESTS / "builder/importers/tensorflow/goldens").glob("*.npz")):
        with np.load(path) as content:
            files = {"model.pb": content["graph"].tobytes()}
            outputs = tuple(name[4:] for name in content.files if name.startswith("out:"))
        try:
            graph.read(files["model.pb"])
            forms = {"model.pb": graph}
        except DecodeError:
            forms = {"model.pb": saved}
        yield Seed(
            name=path.stem, kind=ModelFormat.TENSORFLOW, files=files, forms=forms, model="model.pb", outputs=outputs
        )


def _caffe() -> Iterator[Seed]:
    layer, random = caffe_files.layer, caffe_files.random
    convolution = layer("Convolution", "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }", name="c", tops="c")
    rest = [
        layer("BatchNorm", name="b", bottoms="c", tops="c"),
        layer("Scale", "scale_param { bias_term: true }", name="s", bottoms="c", tops="c"),
        layer(
            "Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", name="p", bottoms="c", tops="p"
        ),
        layer("LRN", "lrn_param { local_size: 3 }", name="l", bottoms="p", tops="l"),
        layer("Slice", "slice_param { axis: 1 slice_point: 1 }", name="cut", bottoms="l", tops="f g"),
        layer("Tile", "tile_param { axis: 1 tiles: 2 }", name="t", bottoms="f", tops="h"),
        layer("Eltwise", "eltwise_param { coeff: 1 coeff: 2 }", name="e", bottoms="g h", tops="e"),
        layer("Power", "power_param { power: 2 scale: 3 shift: 1 }", name="w", bottoms="e", tops="w"),
        layer("Permute", "permute_param { order: 0 order: 2 }", name="q", bottoms="w", tops="q"),
        layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", name="r", bottoms="q", tops="r"),
        layer("InnerProduct", "inner_product_param { num_output: 4 }", name="i", bottoms="r", tops="i"),
        layer("Softmax", name="y", bottoms="i"),
    ]
    blobs = {
        "c": [random(3, 2, 3, 3), random(3)],
        "b": [random(3), random(3, low=1, high=2), np.float32([1])],
        "s": [random(3), random(3)],
        "i": [random(4, 18), random(4)],
    }
    yield _pair("image", caffe_files.header((1, 2, 5, 5)) + convolution + "".join(rest), blobs)
    priors = layer("PriorBox", "prior_box_param { min_size: 2 aspect_ratio: 2 }", name="p", bottoms="x x1", tops="p")
    detected = (
        "detection_output_param { num_classes: 2 nms_param { top_k: 5 } keep_top_k: 3 confidence_threshold: 0.1 }"
    )
    yield _pair(
        "boxes",
        caffe_files.header((1, 2, 3, 3), (1, 3, 9, 9), (1, 108), (1, 54))
        + priors
        + layer("DetectionOutput", detected, bottoms="x2 x3 p"),
        {},
    )
    lstm = layer("LSTM", "recurrent_param { num_output: 2 }", bottoms="x x1")
    yield _pair("steps", caffe_files.header((3, 2, 4), (3, 2)) + lstm, {"y": [random(8, 4), random(8), random(8, 2)]})
    old = 'input: "x" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 5 layers { name: "c" type: CONVOLUTION '
    old += 'bottom: "x" top: "c" convolution_param { num_output: 3 kernel_h: 3 kernel_w: 3 } include { phase: TEST } } '
    old += 'layers { name: "y" type: TANH bottom: "c" top: "y" }'
    for form in ("double", "half", "old"):
        yield _pair(f"old, {form}", old, {"c": blobs["c"]}, form=form, version=1)


def _pair(name: str, text: str, blobs: caffe_files.Arrays, **form: Any) -> Seed:
    net = caffe_schema.net_parameter()
    forms = {
        "deploy.prototxt": Form(
            read=lambda data: text_format.Merge(data.decode(), net()),
            write=lambda message: text_format.MessageToString(message).encode(),
        )
    }
    files = {"net.caffemodel": caffe_files.caffemodel(blobs or {"none": []}, **form), "deploy.prototxt": text.encode()}
    return Seed(
        name=name, kind=ModelFormat.CAFFE, files=files, forms=forms, model="net.caffemodel", companion="deploy.prototxt"
    )


_MAKERS = {ModelFormat.ONNX: _onnx, ModelFormat.TENSORFLOW: _tensorflow, ModelFormat.CAFFE: _caffe}
