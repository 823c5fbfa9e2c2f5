"""Two replicas: one writes. The other takes over within 15 s, and a leader that comes back writes nothing."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from campaign.faults import Fault, Kind
from campaign.lifecycle import StubPlane
from campaign.replicas import LEASE_SECONDS, Replicas

pytestmark = pytest.mark.cluster

HAND_OVER = 15.0
TICK = 0.05


@contextmanager
def standstill() -> Iterator[Callable[[], float]]:
    """The seconds in which this machine let nobody do anything, as far as a thread notices that only sleeps."""
    lost, over = [0.0], threading.Event()

    def notice() -> None:
        woke = time.monotonic()
        while not over.wait(TICK):
            lost[0] += max(0.0, time.monotonic() - woke - 2 * TICK)
            woke = time.monotonic()

    thread = threading.Thread(target=notice, name="standstill")
    thread.start()
    try:
        yield lambda: lost[0]
    finally:
        over.set()
        thread.join()


def quiet(replicas: Replicas) -> dict[str, str]:
    """The versions of all objects, once nothing was written for a while."""
    before = replicas.versions()
    time.sleep(3)
    return before if replicas.versions() == before else {}


def test_a_leader_that_is_stopped_is_replaced_in_time_and_writes_nothing_when_it_goes_on(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    zombie = replicas.start()
    eventually(lambda: "leads" in replicas.log(zombie), 30)
    heir = replicas.start()
    replicas.apply("first")
    eventually(lambda: replicas.ready("first"), 60)
    eventually(lambda: "stands by" in replicas.log(heir), 30)

    with standstill() as lost:
        replicas.processes[zombie].send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        eventually(lambda: "leads" in replicas.log(heir), 40)
        assert time.monotonic() - stopped <= HAND_OVER + lost()

    replicas.apply("second")
    eventually(lambda: replicas.ready("second"), 60)
    before = eventually(lambda: quiet(replicas), 60)
    replicas.processes[zombie].send_signal(signal.SIGCONT)
    assert replicas.processes[zombie].wait(200) is not None, "it ends, for its Deployment to begin it anew"
    assert "leads no more" in replicas.log(zombie)
    time.sleep(1)
    assert replicas.versions() == before


def hands_over(replicas: Replicas, heir: int, eventually: Callable[..., Any]) -> None:
    """The heir leads before a Lease that nobody gave up would have ended."""
    with standstill() as lost:
        began = time.monotonic()
        eventually(lambda: "leads" in replicas.log(heir), 30)
        assert time.monotonic() - began < LEASE_SECONDS + lost(), "the Lease was given up: nobody waits for its end"
    replicas.apply("another")
    eventually(lambda: replicas.seen("another"), 30)


def test_a_leader_that_ends_hands_over_at_once(replicas: Replicas, eventually: Callable[..., Any]) -> None:
    first = replicas.start()
    eventually(lambda: "leads" in replicas.log(first), 30)
    second = replicas.start()
    eventually(lambda: "stands by" in replicas.log(second), 30)
    replicas.processes[first].send_signal(signal.SIGTERM)
    replicas.processes[first].wait(200)
    hands_over(replicas, second, eventually)


@pytest.mark.parametrize("kind", [Kind.WATCH_REFUSED, Kind.WATCH_BROKEN])
def test_a_leader_that_cannot_watch_any_more_ends_with_one_sentence_and_hands_over_at_once(
    stub_plane: StubPlane, replicas: Replicas, eventually: Callable[..., Any], kind: Kind
) -> None:
    fault = Fault(kind=kind)
    stub_plane.watches.afflict(replicas.namespace, fault)
    first = replicas.start(kubeconfig=stub_plane.watches.kubeconfig)
    eventually(lambda: "leads" in replicas.log(first), 30)
    replicas.apply("engine")
    eventually(lambda: replicas.ready("engine"), 60)
    second = replicas.start()
    eventually(lambda: "stands by" in replicas.log(second), 30)
    fault.begin()
    assert replicas.processes[first].wait(200) == 1
    hands_over(replicas, second, eventually)
    *_, last = replicas.log(first).splitlines()
    assert last.startswith("The API server cannot be watched any more")
    assert "says the test" in last
    assert '"level": "error"' not in replicas.log(first)
