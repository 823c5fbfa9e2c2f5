"""Power, clocks and throttling of the GPU while something is measured, from NVIDIA's management library (NVML).

Nothing here changes the GPU's settings. Where NVML is not installed or does not answer (MIG instances report no
power), the figures are left out and never guessed.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from types import ModuleType
from typing import Any

INTERVAL = 0.02  # seconds; NVML itself renews power about every 0.1 s, clocks faster

# nvml.h, nvmlClocksEventReasons*: only those that make a figure slower than the same GPU could be.
SLOWDOWNS: dict[int, str] = {
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x20: "thermal limit (software)",
    0x40: "thermal limit (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at the GPU. `watts` and `megahertz` (of the multiprocessors) are None where it does not tell."""

    watts: float | None
    megahertz: int | None
    reasons: int


@dataclass(slots=True)
class Watch:
    """What was seen while it ran. `joules` comes from the GPU's own energy counter, None where it has none."""

    samples: list[Sample] = field(default_factory=list)
    joules: float | None = None
    seconds: float = 0.0

    def energy(self) -> float | None:
        """Joules: the counter's, else mean power times time, else None."""
        if self.joules is not None:
            return self.joules
        watts = [sample.watts for sample in self.samples if sample.watts is not None]
        return fmean(watts) * self.seconds if watts else None

    def clocks(self) -> tuple[int, int] | None:
        """The lowest and highest clock in MHz."""
        seen = [sample.megahertz for sample in self.samples if sample.megahertz is not None]
        return (min(seen), max(seen)) if seen else None

    def throttled(self) -> dict[str, float]:
        """Why the GPU slowed itself down, each with its share of the samples, from 0 to 1."""
        shares = {
            words: sum(bool(sample.reasons & bit) for sample in self.samples) / max(1, len(self.samples))
            for bit, words in SLOWDOWNS.items()
        }
        return {words: share for words, share in shares.items() if share}


def driver_version() -> str:
    """As NVIDIA writes it (580.159.04); empty where NVML is not there to say."""
    with _library() as pynvml:
        return "" if pynvml is None else _text(pynvml.nvmlSystemGetDriverVersion())


Meter = Callable[[Watch], AbstractContextManager[None]]
"""Samples the GPU in a thread of its own for as long as a block runs, and adds what it saw to the watch."""


@contextmanager
def metering(bus: str) -> Iterator[Meter]:
    """A meter for the GPU at this PCI bus address; where NVML is not there to ask, it adds nothing."""
    with _library() as pynvml:
        if pynvml is None:
            yield nullcontext  # type: ignore[misc]  # a block that a watch goes into and nothing comes out of
            return
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus.encode())

        @contextmanager
        def meter(watch: Watch) -> Iterator[None]:
            ended = threading.Event()
            sampler = threading.Thread(target=_sample, args=(pynvml, handle, watch, ended), name="nvml", daemon=True)
            before, started = _energy(pynvml, handle), time.perf_counter()
            sampler.start()
            try:
                yield
            finally:
                ended.set()
                sampler.join()
                after = _energy(pynvml, handle)
                watch.seconds += time.perf_counter() - started
                if before is not None and after is not None:
                    watch.joules = (watch.joules or 0.0) + (after - before) / 1e3

        yield meter


@contextmanager
def _library() -> Iterator[ModuleType | None]:
    """pynvml, started; None where it is not installed or the machine has no NVML."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _sample(pynvml: Any, handle: Any, watch: Watch, ended: threading.Event) -> None:
    while not ended.wait(INTERVAL):
        power = _asked(pynvml, pynvml.nvmlDeviceGetPowerUsage, handle)
        clock = _asked(pynvml, pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM)
        reasons = _asked(pynvml, pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        watts = None if power is None else power / 1e3
        watch.samples.append(Sample(watts=watts, megahertz=clock, reasons=reasons or 0))


def _energy(pynvml: Any, handle: Any) -> int | None:
    return _asked(pynvml, pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)


def _asked(pynvml: Any, question: Any, *arguments: Any) -> int | None:
    try:
        return int(question(*arguments))
    except pynvml.NVMLError:
        return None  # this GPU or this partition of it does not tell


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
