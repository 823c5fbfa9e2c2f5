"""What is printed reads back as the same network, and what is exported computes the same in ONNX Runtime."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from networks.bert import bert
from networks.inception_v3 import inception_v3
from networks.resnet import resnet50
from networks.text_lstm import text_lstm

from enginewright_builder import exporting, passes
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import export, lowering, parsing, text
from enginewright_runtime.errors import ModelError, UsageError
from enginewright_runtime.plan.recipe import Precision

NETWORKS = {
    "ResNet-50": lambda: resnet50(batch=1, size=64, thin=8),
    "Inception V3": lambda: inception_v3(batch=1, size=75, thin=8),
    "BERT": lambda: bert(1, tokens=8, width=32, heads=2),
    "an LSTM of texts": lambda: text_lstm(batch=2, steps=6, vocabulary=50, width=8, hidden=8),
}
PIPELINES = {
    "no": (),
    "the CPU's": passes.PIPELINE,
    "the GPU's": passes.gpu_pipeline(Precision.FP32),
    "the GPU's float16": passes.gpu_pipeline(Precision.FP16),
}
ODD = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml": 3]> odd (float[batch,N] x, bool c, string[2] words)
    => (float[batch,N] y, int64[2] codes, float[1] t, seq(float[batch,N]) s)
<double[2] wide = {0.1, 1e-300}, int64[1] far = {9223372036854775807}, bool[2] flags = {1, 0}, float[3] odd = {0, 1, 2}>
{
    m, n = Split<axis = 1, num_outputs = 2>(x)
    y = If(c) <then_branch = t () => (float[batch,N] p) { p = Neg(x) },
               else_branch = e () => (float[batch,N] q)
                   { k = Constant<value = float[9] {1,2,3,4,5,6,7,8,9}>() a = ReduceSum<keepdims = 0>(k)
                     q = Mul(x, a) }>
    codes = ai.onnx.ml.LabelEncoder<keys_strings = ["it's", "a \\"b\\", c"], values_int64s = [1, 2]>(words)
    t = Constant<value = float[1] {0.1}>()
    s = SequenceConstruct(x, x)
}"""


def back(network):
    return parsing.from_text(text.to_text(network), text.unseen(network))


def outputs(network, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = ir.to_proto(lowering.to_onnx(network)).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def feeds_of(network):
    random = np.random.default_rng(2)
    shapes = {value.name: ([*value.shape], value.dtype.numpy()) for value in network.inputs}
    return {
        name: (random.standard_normal(shape) if dtype.kind == "f" else random.integers(1, 6, shape)).astype(dtype)
        for name, (shape, dtype) in shapes.items()
    }


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_reads_back_from_its_text(name, pipeline):
    network = NETWORKS[name]()
    passes.run(network, PIPELINES[pipeline])
    again = back(network)
    assert text.to_text(again) == text.to_text(network)
    feeds = feeds_of(network)
    for got, wanted in zip(outputs(again, feeds), outputs(network, feeds), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_bodies_texts_and_odd_names_read_back(tmp_path):
    model = onnx.parser.parse_model(ODD.replace(", num_outputs = 2", ""))
    for graph_name, name in (("m", "a: b"), ("n", "it's, (x)"), ("flags", "_")):
        for node in model.graph.node:
            node.output[:] = [name if made == graph_name else made for made in node.output]
        for constant in model.graph.initializer:
            constant.name = name if constant.name == graph_name else constant.name
    onnx.save(model, tmp_path / "odd.onnx")
    network = from_onnx.load(tmp_path / "odd.onnx")
    again = back(network)
    assert text.to_text(again) == text.to_text(network)
    assert "'it\\'s, (x)'" in text.to_text(network) or '"it\'s, (x)"' in text.to_text(network)
    feeds = {"x": np.ones((2, 2), np.float32), "c": np.array(False), "words": np.array(["it's", 'a "b", c'], object)}
    for got, wanted in zip(outputs(again, feeds), outputs(network, feeds), strict=True):
        np.testing.assert_array_equal(got, wanted)


FUNCTIONS = """<ir_version: 8, opset_import: ["" : 17, "own.kind" : 1]> calls (float[2] x, bool c) => (float[2] y)
{ m = own.kind.leak<alpha = 0.25>(x) y = own.kind.either<n = 3>(c, m) }
<domain: "own.kind", opset_import: ["" : 16]> leak <alpha, beta: float = 0.5> (a) => (b)
{ t = LeakyRelu<alpha: float = @alpha>(a) k = Constant<value = float[1] {-3}>()
  u = Add(t, k) b = LeakyRelu<alpha: float = @beta>(u) }
<domain: "own.kind", opset_import: ["" : 16]> either <n> (c, a) => (b)
{ k = Constant<value_int: int = @n>() f = Cast<to = 1>(k)
  b = If(c) <then_branch = t () => (p) { p = Neg(a) }, else_branch = e () => (q) { q = Mul(a, f) }> }"""


def test_local_functions_read_back_with_their_attributes_defaults_and_bodies(tmp_path):
    onnx.save(onnx.parser.parse_model(FUNCTIONS), tmp_path / "calls.onnx")
    network = from_onnx.load(tmp_path / "calls.onnx")
    told = text.to_text(network)
    assert "function own.kind.leak(alpha, beta=0.5), opset 16\ninput a: ?" in told
    assert "b = LeakyRelu(u, alpha=@beta:float) : ?" in told
    again = back(network)
    assert text.to_text(again) == told
    for choice in (True, False):
        feeds = {"x": np.array([-4, 9], np.float32), "c": np.array(choice)}
        for got, wanted in zip(outputs(again, feeds), outputs(network, feeds), strict=True):
            np.testing.assert_array_equal(got, wanted)


LINE = 'network "n", opset 17\ninput x: float32[2]\nconstant w: float32[9]\n%s\noutput y\n'


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a: y = Neg(z) : float32[2]", "Line 4 of the text reads 'z', which nothing before it makes: a: y = Neg(z)"),
        ("a: y = Neg(x : float32[2]", "Line 4 of the text has ':' where ')' should be"),
        ("a: y = Neg(x) : float33[2]", "Line 4 of the text has no dtype 'float33'"),
        ("a: y = Neg(x, k=__import__) : float32[2]", "has '__import__' where a number should be"),
        ("  a: y = Neg(x) : float32[2]", "Line 4 of the text is not indented by 0"),
        ("a: y = Neg(x) : float32[2", "has 'its end' where ']' should be"),
        ("constant k: int64[2] = 1,2,3", "Line 4 of the text has 3 elements for [2]"),
        ("a: y = Neg(x) : float32[2]  'open", "cannot be read from"),
        ("a: y = LeakyRelu(x, alpha=@k:number) : float32[2]", "has no type of attribute 'number'"),
        ("a: y = Neg(x) : float32[2]\noutput y\nhello", "Line 6 of the text stands after the network"),
    ],
)
def test_a_wrong_line_is_named(line, sentence):
    with pytest.raises(ModelError) as caught:
        parsing.from_text(LINE % line, {"w": np.zeros(9, np.float32)})
    assert sentence in caught.value.message


def test_constants_are_held_against_the_text():
    right = LINE % "a: y = Neg(x) : float32[2]"
    with pytest.raises(ModelError, match="'w' is not given, and the text does not show"):
        parsing.from_text(right)
    with pytest.raises(ModelError, match=r"'w' is float64 \[9\], and the text has float32 \[9\]"):
        parsing.from_text(right, {"w": np.zeros(9)})
    with pytest.raises(ModelError, match="its first line must be"):
        parsing.from_text("hello")
    with pytest.raises(ModelError, match="ends before a line that names the outputs"):
        parsing.from_text(right.replace("output y\n", ""), {"w": np.zeros(9, np.float32)})


def test_export_writes_what_onnx_runtime_runs_alike(tmp_path, capsys):
    model, fused, reviewed = tmp_path / "bert.onnx", tmp_path / "fused.txt", tmp_path / "reviewed.onnx"
    network = NETWORKS["BERT"]()
    network.save(model)
    exporting.export(model, fused, passes="cuda", precision="fp16")
    assert "enginewright.Attention(" in fused.read_text()
    exporting.export(fused, reviewed, as_json=True)
    assert '"layers_before": ' in capsys.readouterr().out
    feeds = feeds_of(network)
    for got, wanted in zip(
        onnxruntime.InferenceSession(reviewed).run(None, feeds), outputs(network, feeds), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=2e-2 * float(np.ptp(wanted)))


def test_export_fixes_shapes_and_cuts_at_an_output(tmp_path):
    model, cut = tmp_path / "resnet.onnx", tmp_path / "cut.onnx"
    resnet50(size=64, thin=8).save(model)
    exporting.export(model, cut, shape=["image=2x3x64x64"], outputs=["relu"], passes="cpu")
    (output,) = onnxruntime.InferenceSession(cut).get_outputs()
    assert (output.name, output.shape) == ("relu", [2, 8, 32, 32])


def test_export_says_what_it_takes(tmp_path):
    with pytest.raises(UsageError, match=r"-o must end in \.onnx or \.txt"):
        exporting.export(tmp_path / "a.onnx", tmp_path / "a.pb")
    resnet50(size=64, thin=8).save(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="--passes must be one of none, cpu, cuda, got 'gpu'"):
        exporting.export(tmp_path / "a.onnx", tmp_path / "b.onnx", passes="gpu")


def test_weights_above_what_one_file_holds_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_INLINE", 1000)
    network = NETWORKS["BERT"]()
    written = export.save(network, tmp_path / "bert.onnx")
    assert [path.name for path in written] == ["bert.onnx", "bert.onnx.data"]
    feeds = feeds_of(network)
    (got,) = onnxruntime.InferenceSession(tmp_path / "bert.onnx").run(None, feeds)
    np.testing.assert_allclose(got, outputs(network, feeds)[0], rtol=1e-4, atol=1e-5)  # its own optimizations are on
