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

Whole = Callable[[Sequence[Implementation]], float]  # microseconds of the whole network, so implemented


@contextmanager
def timed(
    layers: Sequence[DeviceLayer],
    places: Mapping[str, Place],
    border: Border,
    feed: Mapping[str, Array],
    bench: Sharing,
) -> Iterator[Whole]:
    """What times these layers on the inputs of `feed`; nothing happens before the first time is asked for."""
    packing = assemble.Packing(Blobs())
    with ExitStack() as stack:
        benches: list[Bench] = []

        def whole(implementations: Sequence[Implementation]) -> float:
            if not benches:
                benches.append(stack.enter_context(bench.sharing()))
            made = assemble.assemble(layers, implementations, places, border, packing, {})
            with benches[0].opened(made.program, packing.blobs.content()) as running:
                running.run(feed)
                return running.microseconds(1)

        yield whole
