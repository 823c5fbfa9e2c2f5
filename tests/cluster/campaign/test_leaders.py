"""Two replicas: one writes. The other takes over within 15 s, and a leader that comes back writes nothing."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from campaign.faults import Fault, Kind
from campaign.lifecycle import StubPlane
from campaign.replicas import LEASE_SECONDS, Replicas

pytestmark = pytest.mark.cluster

HAND_OVER = 15.0


def test_a_leader_that_is_stopped_is_replaced_in_time_and_writes_nothing_when_it_goes_on(
    replicas: Replicas, eventually: Callable[..., Any]
) -> None:
    zombie = replicas.start()
    eventually(lambda: "leads" in replicas.log(zombie), 30)
    replicas.start()
    replicas.apply("first")
    eventually(lambda: replicas.ready("first"), 60)
    time.sleep(2)  # the second replica has seen the Lease

    replicas.processes[zombie].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    replicas.apply("second")
    eventually(lambda: replicas.seen("second"), 40)
    assert time.monotonic() - stopped <= HAND_OVER

    eventually(lambda: replicas.ready("second"), 60)
    time.sleep(2)
    before = replicas.versions()
    replicas.processes[zombie].send_signal(signal.SIGCONT)
    assert replicas.processes[zombie].wait(30) is not None, "it ends, for its Deployment to begin it anew"
    assert "leads no more" in replicas.log(zombie)
    time.sleep(1)
    assert replicas.versions() == before


def test_a_leader_that_ends_hands_over_at_once(replicas: Replicas, eventually: Callable[..., Any]) -> None:
    first = replicas.start()
    eventually(lambda: "leads" in replicas.log(first), 30)
    second = replicas.start()
    time.sleep(4)
    replicas.processes[first].send_signal(signal.SIGTERM)
    replicas.processes[first].wait(30)
    began = time.monotonic()
    replicas.apply("engine")
    eventually(lambda: replicas.seen("engine"), 30)
    assert time.monotonic() - began < LEASE_SECONDS, "the Lease was given up: nobody waits for its end"
    assert "leads" in replicas.log(second)


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
    time.sleep(4)
    fault.begin()
    began = time.monotonic()
    assert replicas.processes[first].wait(20) == 1
    replicas.apply("another")
    eventually(lambda: replicas.seen("another"), 30)
    assert time.monotonic() - began < LEASE_SECONDS, "the Lease was given up: nobody waits for its end"
    assert "leads" in replicas.log(second)
    *_, last = replicas.log(first).splitlines()
    assert last.startswith("The API server cannot be watched any more")
    assert "says the test" in last
    assert '"level": "error"' not in replicas.log(first)
