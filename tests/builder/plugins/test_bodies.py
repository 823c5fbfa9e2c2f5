"""A plugin inside of a body of If or Loop: nothing can run it there, and the build says so with one sentence."""

import onnx_ir as ir
import pytest

from enginewright_builder import commands
from enginewright_runtime.errors import UnsupportedError

MODEL = """
<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
choosing (bool flag, float[1, 4] x) => (float[1, 4] y)
{
    y = If (flag) <
        then_branch = yes () => (float[1, 4] a) { a = com.example.Swish (x) },
        else_branch = no () => (float[1, 4] b) { b = Neg (x) }
    >
}
"""
LOOP = """
<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
repeating (int64 count, float[1, 4] x) => (float[1, 4] y)
<bool go = {1}>
{
    y = Loop (count, go, x) <
        body = again (int64 i, bool before, float[1, 4] state) => (bool after, float[1, 4] next) {
            after = Identity (before)
            next = com.example.Swish (state)
        }
    >
}
"""


@pytest.mark.parametrize("model", [MODEL, LOOP], ids=["If", "Loop"])
def test_a_plugin_in_a_body_is_refused_with_one_sentence(model, file, tmp_path):
    path = tmp_path / "model.onnx"
    ir.save(ir.from_onnx_text(model), path)
    with pytest.raises(UnsupportedError, match=r"The layer .* is a plugin inside of a body") as caught:
        commands.build(path, tmp_path / "a.plan", effort="fast", plugin=[file])
    assert "\n" not in caught.value.message
    assert not (tmp_path / "a.plan").exists()
