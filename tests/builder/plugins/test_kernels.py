"""A plugin's CUDA kernel: compiled for every architecture, and on the CPU it gives what the NumPy function gives."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cuda_on_host.running import computed, host_compilation

from enginewright_builder import passes
from enginewright_builder.device import checking, layout, lower, plugin_cuda, plugin_kernels
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.network import specialize
from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.plan.recipe import Effort, Precision
from enginewright_runtime.plugins import Cuda, PluginError, plugin

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)


def layers_of(network, precision=Precision.FP32, **shapes):
    """The plugins' layers of a network after the GPU's passes, as its layout has them."""
    fixed = specialize.with_shapes(network, shapes) if shapes else network
    passes.run(fixed, passes.gpu_pipeline(precision))
    placed = layout.assign(fixed)
    made = lower.lower(fixed, placed.places, placed.free)
    return [layer for layer in made if plugin_kernels.plugin_of(layer.network)]


@pytest.fixture
def layers(network):
    return layers_of(network, image=(2, 3, 8, 8))


def test_the_device_finds_the_kernel_as_the_layers_one_tactic(layers):
    names = [[each.name for each in tactics.candidates(layer, HOPPER, Effort.FAST)] for layer in layers]
    assert names == [["com.example.Swish"], ["com.example.Reorg"]]


@pytest.mark.parametrize("place", [0, 1])
def test_on_the_cpu_the_kernel_is_right_by_the_check_that_guards_every_tactic(layers, place):
    layer = layers[place]
    check = checking.check(layer)
    with host_compilation():
        (candidate,) = tactics.candidates(layer, HOPPER, Effort.FAST)
        outputs = computed(candidate.build(), layer.problem, [check.feed[name] for name in layer.inputs])
    reason, share = check.judge(dict(zip(layer.outputs, outputs, strict=True)))
    assert reason == ""
    assert share <= 1


def test_a_wrong_kernel_is_found_out(layers):
    swish = plugin_kernels.plugin_of(layers[0].network)
    wrong = replace(swish, cuda=replace(swish.cuda, source=swish.cuda.source.replace("1.0f +", "1.01f +")))
    check = checking.check(layers[0])
    with host_compilation():
        made = plugin_cuda.build(layers[0], wrong, "sm_90a")
        outputs = computed(made, layers[0].problem, [check.feed[name] for name in layers[0].inputs])
    reason, _ = check.judge(dict(zip(layers[0].outputs, outputs, strict=True)))
    assert "wanted" in reason


def test_tensors_that_lie_channels_last_are_found(layers):
    strides = [kind.strides for layer in layers for kind in layer.problem.operands]
    assert any(stride[1] == 1 for stride in strides), strides


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("place", [0, 1])
def test_the_kernel_compiles_for_every_architecture(layers, place, architecture):
    own = plugin_kernels.plugin_of(layers[place].network)
    (cubin,) = plugin_cuda.build(layers[place], own, architecture).cubins.values()
    assert cubin[:4] == b"\x7fELF"


def test_half_types_compile(plugins):
    for dtype in ("float16", "bfloat16"):
        network = Network()
        (y,) = network.add_plugin(plugins["com.example.Swish"], [network.add_input("x", (2, 8), dtype)])
        network.mark_output(y)
        (layer,) = layers_of(network)
        own = plugin_kernels.plugin_of(layer.network)
        assert plugin_cuda.build(layer, own, "sm_90a").cubins["swish"][:4] == b"\x7fELF"


def test_constants_and_lists_of_attributes_reach_the_kernel():
    text = 'extern "C" __global__ void k(const T* x, const INPUT1_T* w, T* y) {' \
           " long long at = blockIdx.x * blockDim.x + threadIdx.x;" \
           " if (at < N) y[output0(at)] = x[input0(at)] * w[input1(at % INPUT1_0)] + TWO_0 + TWO_1; }"  # fmt: skip

    @plugin("com.example.Weighted", attributes={"two": (1.0, 2.0)}, cuda=Cuda(source=text, entry="k"))
    def weighted(x, w, two):
        return x * w + np.float32(sum(two))

    network, w = Network(), np.arange(4, dtype=np.float32)
    x = network.add_input("x", (3, 4))
    (y,) = network.add_plugin(replace(weighted, source=b"not asked for"), [x, network.add_constant("w", w)])
    network.mark_output(y)
    (layer,) = layers_of(network)
    given = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    with host_compilation():
        (result,) = computed(plugin_cuda.build(layer, weighted, "sm_90a"), layer.problem, [given, w])
    np.testing.assert_allclose(result, given * w + 3, rtol=1e-6)


def test_what_does_not_compile_or_is_not_there_is_said(layers, plugins):
    swish = plugins["com.example.Swish"]
    broken = replace(swish.cuda, source=swish.cuda.source.replace("BETA", "BETTA"))
    with pytest.raises(PluginError, match=r"The CUDA kernel of the plugin com\.example\.Swish is refused: .*BETTA"):
        plugin_cuda.build(layers[0], replace(swish, cuda=broken), "sm_90a")
    with pytest.raises(PluginError, match="has no kernel 'swoosh' with C's name"):
        plugin_cuda.build(layers[0], replace(swish, cuda=replace(swish.cuda, entry="swoosh")), "sm_90a")
    with pytest.raises(Declined, match=r"the plugin com\.example\.Swish has no kernel"):
        plugin_kernels.require(replace(swish, cuda=None))


def test_a_dtype_that_no_kernel_knows_drops_the_kernel_and_not_the_build(layers, plugins):
    kind = replace(layers[0].problem.inputs[0], dtype="float8_e4m3fn")
    odd = replace(layers[0], problem=replace(layers[0].problem, inputs=(kind,)))
    with pytest.raises(PluginError, match=r"No kernel of the plugin com\.example\.Swish can take float8_e4m3fn"):
        plugin_cuda.build(odd, plugins["com.example.Swish"], "sm_90a")


def test_the_plugin_of_the_manual_does_what_it_says(tmp_path):
    page = Path(__file__).resolve().parents[3] / "docs" / "plugins.md"
    code, *_ = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    (tmp_path / "halve.py").write_text(code)
    halve = collection.load([tmp_path / "halve.py"])["com.example.Halve"]
    network = Network()
    (y,) = network.add_plugin(halve, [network.add_input("x", ("batch", 7))], {"step": 3, "gain": 0.5})
    network.mark_output(y)
    (layer,) = layers_of(network, x=(2, 7))
    x = np.arange(14, dtype=np.float32).reshape(2, 7)
    with host_compilation():
        (result,) = computed(plugin_cuda.build(layer, halve, "sm_90a"), layer.problem, [x])
    np.testing.assert_array_equal(result, x[:, ::3] / 2)
    np.testing.assert_array_equal(result, halve.reference(x, step=3, gain=0.5))
