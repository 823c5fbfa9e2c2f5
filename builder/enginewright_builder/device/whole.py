"""A network timed as a whole, with one choice of implementations after the other.

What the choices have in common stays on the device, packed and uploaded once: then to time another one is to bind its
launches again, and hundreds can be tried in seconds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from enginewright_builder.device import assemble
from enginewright_builder.device.assemble import Border
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.layout import Place
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.trial import Bench, Sharing
from enginewright_builder.emit import Blobs
from enginewright_runtime.engine.values import Array

Line = Sequence[tuple[DeviceLayer, Implementation]]  # a network as it runs
Whole = Callable[[Line], float]  # its microseconds


@contextmanager
def timed(
    places: Mapping[str, Place], border: Border, feed: Mapping[str, Array], bench: Sharing, l2_bytes: int
) -> Iterator[Whole]:
    """What times a network on the inputs of `feed`; nothing happens before the first time is asked for."""
    packing = assemble.Packing(Blobs())
    with ExitStack() as stack:
        benches: list[Bench] = []

        def whole(line: Line) -> float:
            if not benches:
                benches.append(stack.enter_context(bench.sharing()))
            layers, implementations = [layer for layer, _ in line], [implementation for _, implementation in line]
            made = assemble.assemble(layers, implementations, places, border, packing, {}, l2_bytes)
            with benches[0].opened(made.program, packing.blobs.content()) as running:
                running.run(feed)
                return running.microseconds(1)

        yield whole
