"""Two replicas: one writes. The other takes over within 15 s, and a leader that comes back writes nothing."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
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
