"""What the tuner would compile for a network on some GPU, found without one, and what ptxas says of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from enginewright_builder import passes
from enginewright_builder.device import compile as compiler
from enginewright_builder.device import layout, lower
from enginewright_builder.device.implementation import Device, Implementation
from enginewright_builder.device.kept import kept
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.engine.cuda.program import Kernel
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import Effort, Precision

_BETWEEN = "\0"  # a text and its roomier form, where a cubin would be
_NUMBERS = re.compile(r"\d+")
_SAID = re.compile(r"(\d+) bytes spill stores[^\n]*\n[^\n]*Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A kernel of a candidate: whose, for which layer, its text, and how it is launched."""

    layer: str
    tactic: str
    name: str
    source: str
    roomier: str
    kernel: Kernel

    @property
    def form(self) -> str:
        """The text without its numbers: kernels of one form differ in sizes alone."""
        return _NUMBERS.sub("0", self.source)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of one kernel, in bytes and registers a thread."""

    spilled: int
    registers: int
    static_shared: int


def layers_of(network: Network, device: Device, precision: Precision) -> list[DeviceLayer]:
    """One layer of each problem that a network poses on a GPU. Changes the network."""
    passes.run(network, passes.gpu_pipeline(precision, (), capability=device.capability))
    placed = layout.assign(network)
    found: dict[bytes, DeviceLayer] = {}
    for layer in lower.lower(network, placed.places, placed.free, math=""):
        found.setdefault(records.canonical(layer.problem), layer)
    return list(found.values())


def offers(layers: list[DeviceLayer], device: Device, effort: Effort) -> Iterator[Offer]:
    """Every kernel of every candidate of ours, nothing compiled. The vendors' libraries are not asked."""

    def uncompiled(source: str, architecture: str, options: tuple[str, ...] = (), roomier: str = "") -> bytes:
        assert (architecture, options) == (device.architecture, ())
        return _BETWEEN.join((source, roomier)).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile", uncompiled)
        for layer in layers:
            for candidate in tactics.candidates(layer, device, effort):
                yield from _kernels(layer, candidate.tactic, candidate.name, candidate.build())


def _kernels(layer: DeviceLayer, tactic: str, name: str, made: Implementation) -> Iterator[Offer]:
    for step in made.steps:
        if step.kernel is not None:
            source, roomier = made.cubins[step.kernel.cubin].decode().split(_BETWEEN)
            yield Offer(layer=layer.name, tactic=tactic, name=name, source=source, roomier=roomier, kernel=step.kernel)


def resources(offer: Offer, device: Device) -> Resources:
    """Compile a kernel for a GPU that need not be here; one whose text was compiled before is not compiled again."""
    key = ("resources", compiler.version(), device.architecture, offer.source, offer.roomier)
    said = kept(
        key, lambda: compiler.resources(offer.source, device.architecture, roomier=offer.roomier).encode()
    ).decode()
    _, _, own = said.partition(f"Compiling entry function '{offer.kernel.function}'")
    found = _SAID.search(own)
    assert found is not None, f"ptxas said nothing of {offer.kernel.function!r}: {said}"
    spilled, registers, static = (int(each or 0) for each in found.groups())
    return Resources(spilled=spilled, registers=registers, static_shared=static)
