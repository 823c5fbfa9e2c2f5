"""The operator killed between any two of its writes, and whatever else may go wrong: the same end, nothing left over.

A small sample always; the whole sweep with the marker slow. It writes its table, which docs/fault-campaign.md shows, to
the file that ENGINEWRIGHT_CAMPAIGN_TABLE names.
"""

import asyncio
import gc
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from campaign.faults import Fault, Kind
from campaign.lifecycle import Ended, Life, StubPlane
from controlplane.kube_json import KubeJson

pytestmark = [
    pytest.mark.cluster,
    # What is killed closes nothing: its sockets are left to the garbage collector, as to the kernel otherwise.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

AT_ONCE = 12  # a life mostly waits
KILLS = (Kind.KILLED_BEFORE, Kind.KILLED_AFTER)
Result = tuple[Fault, Ended | BaseException]


def live(plane: StubPlane, folder: Path, faults: Sequence[tuple[Kind, int]]) -> list[Result]:
    """A life for each fault, some at a time, each in a loop of its own, as each process has."""

    async def one(kind: Kind, at: int) -> Result:
        fault = Fault(kind=kind, at=at)
        async with await KubeJson.connect(plane.plane.kubeconfig) as cluster:
            life = Life(plane, cluster, folder, f"life-{secrets.token_hex(4)}")
            try:
                return fault, await life.run(fault)
            except AssertionError as error:
                return fault, error

    with ThreadPoolExecutor(AT_ONCE) as threads:
        results = list(threads.map(lambda each: asyncio.run(one(*each)), faults))
    gc.collect()  # here, where it is known that what was killed left its sockets open
    return results


def wrong(result: Result, usual: Ended) -> str:
    """What is not as it would be without the fault; empty where all is."""
    _, ended = result
    if isinstance(ended, BaseException):
        return str(ended)
    if ended.states != usual.states:
        return f"another state: {ended.states}"
    if sorted(ended.builds) != sorted(set(ended.builds)) or len(ended.builds) != 2:
        return f"built more than once: {ended.builds}"
    return ""


def failures(results: list[Result], usual: Ended) -> list[str]:
    """All that went wrong, each with its fault."""
    return [f"{each[0].kind} at write {each[0].at}: {found}" for each in results if (found := wrong(each, usual))]


@pytest.fixture(scope="session")
def usual(stub_plane: StubPlane, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A life without a fault."""
    ((_, ended),) = live(stub_plane, tmp_path_factory.mktemp("usual"), [(Kind.NONE, 0)])
    assert isinstance(ended, Ended), ended
    return ended


def test_a_life_without_a_fault_builds_twice_and_leaves_nothing(usual: Ended) -> None:
    assert usual.processes == 1
    assert len(set(usual.builds)) == len(usual.builds) == 2
    assert [state["files"] for state in usual.states] == [1, 1]


def test_a_sample_of_kills_and_faults_changes_nothing(stub_plane: StubPlane, usual: Ended, tmp_path: Path) -> None:
    last = len(usual.writes)
    sample = [(kind, at) for kind in KILLS for at in (4, last // 2, last * 3 // 4)]
    sample += [(kind, 6) for kind in (Kind.ANSWER_LOST, Kind.WATCH_EXPIRED, Kind.EVENTS_STALE, Kind.STORAGE_DOWN)]
    results = live(stub_plane, tmp_path, sample)
    assert failures(results, usual) == []
    assert all(fault.reached for fault, _ in results)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NONE])
def test_a_whole_sweep_changes_nothing(stub_plane: StubPlane, usual: Ended, tmp_path: Path, kind: Kind) -> None:
    sweep = [(kind, at) for at in range(1, len(usual.writes) + 1)]
    results = live(stub_plane, tmp_path, sweep)
    if path := os.environ.get("ENGINEWRIGHT_CAMPAIGN_TABLE"):
        with Path(path).open("a") as file:
            file.write(row(results, usual))
    assert failures(results, usual) == []


def row(results: list[Result], usual: Ended) -> str:
    """A sweep as a row of Markdown: fault, lives, those in which its write came, those that were good."""
    reached, good = sum(fault.reached for fault, _ in results), sum(not wrong(each, usual) for each in results)
    return f"| {results[0][0].kind} | {len(results)} | {reached} | {good} |\n"
