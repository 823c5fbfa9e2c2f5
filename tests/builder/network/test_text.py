"""The text form says all that a reviewer needs."""

import onnx

from enginewright_builder.importers import from_onnx
from enginewright_builder.network import layers, text

SOURCE = """<ir_version: 8, opset_import: ["" : 17]> digits (float[batch,2] x, bool c) => (float[batch,2] y)
<float[2] k = {0.5, 2.0}>
{
  a = LeakyRelu<alpha = 0.1>(x)
  m = Mul(a, k)
  y = If(c) <then_branch = t () => (float[batch,2] p) { p = Neg(m) },
             else_branch = e () => (float[batch,2] q) { q = Abs(m) }>
}"""


def test_a_network_prints_as_a_person_would_write_it(tmp_path):
    onnx.save(onnx.parser.parse_model(SOURCE), tmp_path / "model.onnx")
    network = from_onnx.load(tmp_path / "model.onnx")
    assert text.to_text(network) == (
        'network "digits", opset 17\n'
        "input x: float32[batch,2]\n"
        "input c: bool[]\n"
        "constant k: float32[2] = 0.5,2\n"
        "LeakyRelu:a: a = LeakyRelu(x, alpha=0.100000001) : float32[batch,2]\n"
        "Mul:m: m = Mul(a, k) : float32[batch,2]\n"
        "If:y: y = If(c) : float32[batch,2]\n"
        "  else_branch:\n"
        "    Abs:q: q = Abs(m) : float32[batch,2]\n"
        "    output q\n"
        "  then_branch:\n"
        "    Neg:p: p = Neg(m) : float32[batch,2]\n"
        "    output p\n"
        "output y\n"
    )
    assert layers.count(network) == 3
    assert layers.kinds(network) == {"If": 1, "LeakyRelu": 1, "Mul": 1}
