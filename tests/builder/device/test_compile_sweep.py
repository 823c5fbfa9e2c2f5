"""Every network builds for every architecture: all kernels that the tuner would try are compiled, and fit the GPU.

Nothing runs here. Kernels whose texts differ in nothing but numbers are of one form; the shortest and the longest text
of each form are compiled, once an architecture, whatever network they are from. How all are launched is checked.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from compile_sweep import offers
from compile_sweep.architectures import DEVICES, REGISTERS, STATIC_SHARED
from compile_sweep.offers import Offer
from compile_sweep.operations import operations
from networks.bert import bert
from networks.inception_v3 import inception_v3
from networks.resnet import resnet50, resnet152
from networks.text_lstm import text_lstm
from networks.vgg19 import vgg19
from networks.weights import cheap

from enginewright_builder.device.implementation import Device
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.engine import available
from enginewright_runtime.plan.recipe import Effort, Precision

NETWORKS: dict[str, Callable[[], Network]] = {
    "VGG19": lambda: vgg19(cheap(), batch=1),
    "Inception V3": lambda: inception_v3(cheap(), batch=1),
    "ResNet-50": lambda: resnet50(cheap(), batch=1),
    "ResNet-50, 128 pictures": lambda: resnet50(cheap(), batch=128),
    "ResNet-152": lambda: resnet152(cheap(), batch=1, caffe=True),
    "LSTM": lambda: text_lstm(cheap(), batch=1),
    "BERT": lambda: bert(1, cheap()),
    "every operation": operations,
}
SPILLED = 0  # bytes that a kernel of ours may spill from registers
EVERYWHERE = {"generated"}
SINCE_AMPERE = EVERYWHERE | {"row product", "flash attention"}


@pytest.fixture(scope="module")
def seen() -> set[tuple[int, str]]:
    """Texts that were compiled before, by architecture."""
    return set()


def offered(name: str, device: Device, precision: Precision = Precision.FP16) -> list[Offer]:
    """What the tuner would try; every layer of the network has something."""
    layers = offers.layers_of(NETWORKS[name](), device, precision)
    for layer in layers:
        tactics.require_runnable(layer.network)
    found = list(offers.offers(layers, device, Effort.BALANCED))
    assert {each.layer for each in found} == {layer.name for layer in layers}
    return found


def extremes(found: Iterable[Offer]) -> list[Offer]:
    """The shortest and the longest text of each form."""
    forms: dict[str, list[Offer]] = {}
    for each in found:
        forms.setdefault(each.form, []).append(each)
    ordered = [sorted(group, key=lambda each: (len(each.source), each.source)) for group in forms.values()]
    return [each for group in ordered for each in {id(group[0]): group[0], id(group[-1]): group[-1]}.values()]


def require_launchable(each: Offer, device: Device) -> None:
    """The launch asks for nothing that the architecture does not have."""
    kernel, what = each.kernel, f"{each.tactic} {each.name!r} for {each.layer!r}"
    assert kernel.shared_bytes <= device.shared_bytes, what
    assert kernel.block[0] * kernel.block[1] * kernel.block[2] <= 1024, what
    assert max(kernel.grid[1:]) <= 65535, what
    assert device.capability >= 90 or not (kernel.dependent or kernel.cluster), what
    assert device.capability >= 90 or all(argument.tensor_map is None for argument in kernel.arguments), what


def unfit(each: Offer, device: Device) -> str:
    """What is wrong with it: compiled, it spills nothing, and one block of it fits a multiprocessor."""
    taken = offers.resources(each, device)
    threads = each.kernel.block[0] * each.kernel.block[1] * each.kernel.block[2]
    fits = (
        taken.spilled <= SPILLED
        and taken.static_shared <= STATIC_SHARED
        and taken.static_shared + each.kernel.shared_bytes <= device.shared_bytes
        and threads * taken.registers <= REGISTERS
    )
    return "" if fits else f"{each.tactic} {each.name!r} for {each.layer!r} on {device.architecture}: {taken}"


def compile_all(found: Iterable[Offer], device: Device) -> None:
    with ThreadPoolExecutor(available.processors()) as pool:
        wrong = [each for each in pool.map(lambda offer: unfit(offer, device), found) if each]
    assert not wrong


def of_our_families(capability: int, found: Iterable[Offer]) -> bool:
    """No kernel is offered where its instructions do not exist."""
    if capability == 90:
        return True
    return {each.tactic for each in found} <= (EVERYWHERE if capability < 80 else SINCE_AMPERE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kernel_of_a_network_compiles_for_every_architecture(
    name: str, capability: int, seen: set[tuple[int, str]]
) -> None:
    device = DEVICES[capability]
    found = offered(name, device)
    assert of_our_families(capability, found)
    for each in found:
        require_launchable(each, device)
    new = [each for each in extremes(found) if (capability, each.source) not in seen]
    seen.update((capability, each.source) for each in new)
    compile_all(new, device)


@pytest.mark.parametrize("capability", [75, 120])
def test_a_network_without_hoppers_kernels_builds_elsewhere(capability: int) -> None:
    device = DEVICES[capability]
    found = offered("BERT", device)
    assert of_our_families(capability, found)
    for each in found:
        require_launchable(each, device)
    compile_all({each.form: each for each in found}.values(), device)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
@pytest.mark.parametrize("capability", DEVICES)
def test_other_arithmetics_compile_for_every_architecture(
    capability: int, precision: Precision, seen: set[tuple[int, str]]
) -> None:
    device = DEVICES[capability]
    for name in ("ResNet-50", "BERT"):
        found = offered(name, device, precision)
        assert of_our_families(capability, found)
        new = {each.form: each for each in found if (capability, each.source) not in seen}
        compile_all(new.values(), device)


def test_hoppers_kernels_are_offered_on_hopper() -> None:
    tried = {each.tactic for each in offered("ResNet-50", DEVICES[90])}
    assert {"hopper gemm", "hopper latency convolution", "hopper split gemm", "hopper stem convolution"} <= tried
