"""A network run whole on a card, each layer by the first candidate that can be had: nothing is tuned."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginewright_builder import emit, planning
from enginewright_builder.device import assemble, layout, lower
from enginewright_builder.device.assemble import Assembled, Border
from enginewright_builder.device.implementation import Device, Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network
from enginewright_builder.tactics import device as tactics
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Effort

Array = np.ndarray[Any, np.dtype[Any]]


def network_of(text: str, constants: Mapping[str, Array], folder: Path) -> Network:
    """A network in ONNX's text form, with further constants by name."""
    model = onnx.parser.parse_model(text)
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = folder / "model.onnx"
    onnx.save(model, path)
    return from_onnx.load(path)


def right(network: Network, feed: Mapping[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime gives on the CPU, without optimizations."""
    with planning.reference(network, Blobs()) as run:
        return {name: np.asarray(value) for name, value in run(dict(feed)).items()}


def run(network: Network, feed: Mapping[str, Array], device: Device) -> dict[str, Array]:
    """The outputs on the card, the same launched one by one and replayed from a graph."""
    from enginewright_runtime.engine.cuda.session import Session

    made, blobs = assembled(network, device)
    with Session(made.program, {name: bytes(data) for name, data in blobs.content().items()}) as session:
        eager, replayed = session.run(feed), session.run(feed, graph=True)
    for name, value in eager.items():
        np.testing.assert_array_equal(replayed[name], value)
    return eager


def assembled(network: Network, device: Device) -> tuple[Assembled, Blobs]:
    """The program of a network after its passes, and its blobs."""
    placed = layout.assign(network)
    layers = lower.lower(network, placed.places, placed.free)
    border = Border(
        inputs=tuple(emit.binding(value) for value in network.inputs),
        outputs=tuple(emit.binding(value) for value in network.outputs),
    )
    blobs = Blobs()
    implementations = [next(implementations_of(layer, device)) for layer in layers]
    packing = assemble.Packing(blobs)
    return assemble.assemble(layers, implementations, placed.places, border, packing, {}, device.l2_bytes), blobs


def implementations_of(layer: DeviceLayer, device: Device) -> Iterator[Implementation]:
    """Of every candidate that can be built."""
    for candidate in tactics.candidates(layer, device, Effort.FAST):
        try:
            yield candidate.build()
        except UnsupportedError:
            continue
