"""What was measured, as JSON that a second run continues: races, with their results and conditions.

A race is one network and batch, with ours and some peers side by side in one process. Ratios are taken inside a race
only. A network and batch may have several races, where one run had no time for all peers.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "ours"
# Word of --peers to the name that the report uses. The order is that in which they get ready: the slowest last.
PEERS: Mapping[str, str] = {
    "eager": "torch eager",
    "graph": "torch eager, CUDA graph",
    "onnxruntime": "ONNX Runtime CUDA",
    "compile": "torch.compile max-autotune",
}
ALLOWED = 0.03  # of the output's range, for float16 against float32: more is a wrong answer, not rounding
AGREE = 0.995  # top-1 of ours with float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of the benchmark: its name in the report, and the goal in milliseconds for each batch."""

    title: str
    goals: Mapping[int, float]


NETWORKS: Mapping[str, Network] = {
    "resnet50": Network(title="ResNet-50", goals={1: 0.11, 8: 0.28, 128: 2.35}),
    "vgg19": Network(title="VGG19", goals={1: 0.20, 8: 0.70, 128: 8.0}),
    "inception_v3": Network(title="Inception V3", goals={1: 0.30, 8: 0.70}),
    "resnet152": Network(title="ResNet-152", goals={1: 0.32, 8: 0.80}),
    "bert": Network(title="BERT-base, 128 tokens", goals={1: 0.28, 8: 0.50}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One contender in one race. Times are medians in milliseconds, `error` is of the output's range.

    `joules` an inference, `mhz` and `throttled` (reason to share of the time) are of a second of replays without a
    pause, whose median is `sustained_ms`; None where the GPU did not tell.
    """

    ms: float
    error: float
    ready_s: float
    top1: float | None = None
    sustained_ms: float | None = None
    joules: float | None = None
    mhz: tuple[int, int] | None = None
    throttled: Mapping[str, float] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether the answer is float32's but for rounding."""
        return self.error <= ALLOWED


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """Why a contender did not take part; `late_after` where it was cut off after so many seconds."""

    reason: str
    late_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One network and batch under the record's conditions of that number; `classes`: how many float32 found."""

    network: str
    batch: int
    conditions: int
    layers: str = ""
    pictures: int = 0
    classes: int = 0
    results: Mapping[str, Result] = field(default_factory=dict)
    declined: Mapping[str, Declined] = field(default_factory=dict)

    @property
    def ours(self) -> Result | None:
        """Ours, where it was built."""
        return self.results.get(OURS)

    @property
    def peers(self) -> dict[str, Result]:
        """Everyone else who was right."""
        return {name: each for name, each in self.results.items() if name != OURS and each.right}

    def ratio(self, peer: str) -> float | None:
        """How many times longer the peer took than ours; None where one of the two did not run or was wrong."""
        if self.ours is None or not self.ours.right or peer not in self.peers:
            return None
        return self.peers[peer].ms / self.ours.ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a run was made under."""

    gpu: str
    driver: str
    versions: Mapping[str, str]
    date: str
    command: str


@dataclass(slots=True, kw_only=True)
class Record:
    """All races so far, in the order in which they were run."""

    conditions: list[Conditions] = field(default_factory=list)
    races: list[Race] = field(default_factory=list)

    def of(self, network: str, batch: int) -> list[Race]:
        """The races of one network and batch."""
        return [race for race in self.races if (race.network, race.batch) == (network, batch)]

    def rows(self) -> Iterator[tuple[str, int, list[Race]]]:
        """Network, batch and races, in the order of NETWORKS."""
        for network in NETWORKS:
            for batch in sorted({race.batch for race in self.races if race.network == network}):
                yield network, batch, self.of(network, batch)

    def missing(self, network: str, batch: int, peers: Sequence[str], budget: float) -> list[str] | None:
        """Which of these peers (words of PEERS) are still to be raced; None where there is nothing left to do.

        Who was cut off before is tried again only with a larger budget. An empty list: ours alone is missing.
        """
        races = self.of(network, batch)
        known = {name for race in races for name in race.results}
        known |= {
            name
            for race in races
            for name, declined in race.declined.items()
            if declined.late_after is None or declined.late_after >= budget
        }
        left = [peer for peer in peers if PEERS[peer] not in known]
        return left if left or OURS not in known else None

    def under(self, now: Conditions) -> int:
        """The number of these conditions, added. Raises ValueError where the record is of another GPU."""
        others = {each.gpu for each in self.conditions if each.gpu != now.gpu}
        if others:
            raise ValueError(
                f"The record was begun on {', '.join(others)} and this is {now.gpu}: name another --record."
            )
        self.conditions.append(now)
        return len(self.conditions) - 1


def read(path: Path) -> Record:
    """The record in this file, or an empty one. Raises ValueError or KeyError for a file that is none."""
    if not path.exists():
        return Record()
    told = json.loads(path.read_text(encoding="utf-8"))
    return Record(
        conditions=[Conditions(**each) for each in told["conditions"]],
        races=[_race(each) for each in told["races"]],
    )


def write(path: Path, record: Record) -> None:
    """Whole or not at all, since a run may be cut off at any time."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _race(told: dict[str, Any]) -> Race:
    results = {
        name: Result(**each | {"mhz": tuple(each["mhz"]) if each["mhz"] else None})
        for name, each in told["results"].items()
    }
    declined = {name: Declined(**each) for name, each in told["declined"].items()}
    return Race(**told | {"results": results, "declined": declined})
