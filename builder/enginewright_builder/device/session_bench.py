"""The runtime's own session as the bench that candidates are run on, here and in a rehearsing child.

It imports nothing of networks: a child has to start quickly.
"""

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from enginewright_runtime.engine.cuda.driver import gpu
from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.cuda.session import Loaded, Session
from enginewright_runtime.engine.values import Array

_SAMPLES = 15
_QUICK = 400.0  # microseconds below which a replay is repeated more often: it is noisier


class SessionBench:
    """Programs on this machine's GPU, as `device.trial.Bench` asks."""

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["Timer"]:
        """Raises PlanError, DeviceError."""
        with Session(program, blobs) as session:
            yield Timer(session)

    @contextmanager
    def sharing(self) -> Iterator["SharingBench"]:
        """A bench whose programs find on the GPU what those before them brought there."""
        bench = SharingBench()
        try:
            yield bench
        finally:
            bench.loaded.close()


@dataclass(slots=True)
class SharingBench:
    """As SessionBench, for programs of one family: blobs of equal names are equal."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    loaded: Loaded = field(init=False)

    def __post_init__(self) -> None:
        self.loaded = Loaded(gpu(), lambda name: self.blobs[name])

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["Timer"]:
        """Raises PlanError, DeviceError."""
        self.blobs.update(blobs)
        with Session(program, blobs, loaded=self.loaded) as session:
            yield Timer(session)


@dataclass(frozen=True, slots=True)
class Timer:
    """A session that is timed until its median is steady."""

    session: Session

    def run(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs of one run over poisoned memory. Raises DeviceError where a kernel fails."""
        return self.session.run(feed)

    def microseconds(self, repeats: int, *, cold: bool = False) -> float:
        """The median of samples; short replays get more of them, since they are noisier."""
        taken = list(self.session.time(samples=_SAMPLES, repeats=repeats, cold=cold))
        if statistics.median(taken) * 1000 * repeats < _QUICK:
            taken += self.session.time(samples=3 * _SAMPLES, repeats=repeats, cold=cold)
        return statistics.median(taken) * 1000
