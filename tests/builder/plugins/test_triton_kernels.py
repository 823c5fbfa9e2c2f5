"""A plugin's Triton kernel: compiled for every architecture, and in Triton's interpreter it gives what NumPy gives."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cuda_on_host.running import computed
from triton_on_host.interpreting import interpretation, interpreted, needs_triton

from enginewright_builder import command_line, passes
from enginewright_builder.device import checking, compile_triton, layout, lower, plugin_kernels, plugin_triton
from enginewright_builder.device.implementation import Device
from enginewright_builder.network import specialize
from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.errors import MissingExtraError
from enginewright_runtime.plan.recipe import Effort, Precision
from enginewright_runtime.plugins import PluginError, Triton

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
SWISH = """
@triton.jit
def swish(x, y):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + input0(at), mask=at < N, other=0.0).to(tl.float32)
    tl.store(y + output0(at), (value * tl.sigmoid(value * BETA)).to(T), mask=at < N)
"""


def layers_of(network, **shapes):
    """The plugins' layers of a network after the GPU's passes, as its layout has them."""
    fixed = specialize.with_shapes(network, shapes) if shapes else network
    passes.run(fixed, passes.gpu_pipeline(Precision.FP32))
    placed = layout.assign(fixed)
    return [each for each in lower.lower(fixed, placed.places, placed.free) if plugin_kernels.plugin_of(each.network)]


def norm(plugins, dtype="float32", rows=5, columns=77, epsilon=1e-3):
    """A layer of the example's RMSNorm."""
    network = Network()
    scale = network.add_constant("scale", np.linspace(0.5, 2, columns, dtype=np.float32))
    x = network.add_input("x", (rows, columns), dtype)
    (y,) = network.add_plugin(plugins["com.example.RMSNorm"], [x, scale], {"epsilon": epsilon})
    network.mark_output(y)
    (layer,) = layers_of(network)
    return layer


def judged(layer, candidate):
    """Why the candidate's outputs are wrong, by the check that guards every tactic, and its share of the bound."""
    check = checking.check(layer)
    with interpretation():
        made = candidate.build()
    given = [layer.constants.get(place, check.feed.get(name)) for place, name in enumerate(layer.inputs)]
    outputs = computed(made, layer.problem, given, interpreted)
    return check.judge(dict(zip(layer.outputs, outputs, strict=True)))


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "capability"), [*(("float16", each) for each in ARCHITECTURES), ("float32", 90), ("bfloat16", 90)]
)
def test_the_example_compiles_for_every_architecture(plugins, dtype, capability):
    made = plugin_triton.build(norm(plugins, dtype), plugins["com.example.RMSNorm"], capability)
    assert made.cubins["rms_norm"][:4] == b"\x7fELF"
    assert made.steps[0].kernel.grid == (5, 1, 1)  # a program a row


@needs_triton
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_example_is_right_by_the_check_that_guards_every_tactic(plugins, dtype):
    layer = norm(plugins, dtype)
    (candidate,) = tactics.candidates(layer, HOPPER, Effort.FAST)
    assert candidate.tactic == "plugin in triton"
    reason, share = judged(layer, candidate)
    assert reason == ""
    assert share <= 1


@needs_triton
def test_a_wrong_kernel_is_found_out(plugins):
    layer = norm(plugins)
    right = plugins["com.example.RMSNorm"]
    wrong = replace(right, triton=replace(right.triton, source=right.triton.source.replace("/ INPUT0_1", "/ WIDTH")))
    (candidate,) = plugin_kernels.candidates(layer, wrong, HOPPER)
    assert "wanted" in judged(layer, candidate)[0]


@needs_triton
def test_beside_a_cuda_kernel_it_is_a_second_tactic_and_finds_tensors_that_lie_channels_last(network, plugins):
    layer = layers_of(network, image=(2, 3, 8, 8))[0]
    both = replace(plugins["com.example.Swish"], triton=Triton(source=SWISH, entry="swish", block=64))
    candidates = plugin_kernels.candidates(layer, both, HOPPER)
    assert [each.tactic for each in candidates] == ["plugin", "plugin in triton"]
    assert any(kind.strides[1] == 1 for kind in layer.problem.operands)
    assert judged(layer, candidates[1])[0] == ""


@needs_triton
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": SWISH.replace("BETA", "BETTA")}, r"com\.example\.Swish is refused: .*BETTA is not defined"),
        ({"programs": lambda x: 3}, r"programs of the plugin com\.example\.Swish cannot be counted: TypeError"),
        ({"programs": lambda x, beta: 0}, r"com\.example\.Swish says that 0 programs run"),
    ],
)
def test_what_does_not_compile_or_cannot_be_counted_is_said(network, plugins, changes, words):
    layer = layers_of(network, image=(2, 3, 8, 8))[0]
    own = replace(plugins["com.example.Swish"], triton=replace(Triton(source=SWISH, entry="swish"), **changes))
    with pytest.raises(PluginError, match=words):
        plugin_triton.build(layer, own, 90)


def test_without_triton_a_cuda_kernel_goes_on_alone_and_a_triton_kernel_says_what_to_install(
    network, plugins, monkeypatch
):
    monkeypatch.setattr(compile_triton, "version", lambda: "")
    layer = layers_of(network, image=(2, 3, 8, 8))[0]
    both = replace(plugins["com.example.Swish"], triton=Triton(source=SWISH, entry="swish"))
    assert [each.tactic for each in plugin_kernels.candidates(layer, both, HOPPER)] == ["plugin"]
    with pytest.raises(MissingExtraError, match=r"com\.example\.RMSNorm needs the package 'triton'"):
        tactics.candidates(norm(plugins), HOPPER, Effort.FAST)


def test_another_text_of_the_kernel_is_another_recipe(file, tmp_path):
    other, model = tmp_path / "other.py", tmp_path / "model.onnx"
    model.write_bytes(b"")
    other.write_text(file.read_text().replace("tl.rsqrt(", "1 / tl.sqrt("))
    digests = set()
    for module in (file, other):
        request = command_line.request(
            model=model, output=tmp_path / "a.plan", target="cuda", shapes=(), batches="1", precisions="",
            calibration=None, outputs=(), gate_words=(), effort="fast", plugins=[module],
        )  # fmt: skip
        digests.add(request.recipe.digest)
    assert len(digests) == 2


@needs_triton
def test_the_kernel_of_the_manual_does_what_it_says(tmp_path):
    page = Path(__file__).resolve().parents[3] / "docs" / "plugins.md"
    halve, rows = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    (tmp_path / "centred.py").write_text(rows)
    own = collection.load([tmp_path / "centred.py"])["com.example.Centred"]
    network = Network()
    (y,) = network.add_plugin(own, [network.add_input("x", (3, 7))], {"gain": 0.5})
    network.mark_output(y)
    (layer,) = layers_of(network)
    with interpretation():
        made = plugin_triton.build(layer, own, 90)
    x = np.arange(21, dtype=np.float32).reshape(3, 7) ** 2
    (result,) = computed(made, layer.problem, [x], interpreted)
    np.testing.assert_allclose(result, (x - x.mean(axis=1, keepdims=True)) / 2, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result, own.reference(x, gain=0.5), rtol=1e-5, atol=1e-5)
    assert "com.example.Halve" in halve
