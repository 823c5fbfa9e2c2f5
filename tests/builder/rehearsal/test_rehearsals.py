"""Rehearsals: what a candidate does to the process that runs it is that candidate's failure and nobody else's."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rehearsing import acting
from rehearsing.acting import Act

from enginewright_builder.rehearsal import probe
from enginewright_builder.rehearsal.rehearsals import RehearsalError, Rehearsals
from enginewright_runtime.engine.cuda import validation
from enginewright_runtime.engine.cuda.program import DeviceProgram, Fill, Pointer, Space, Step

CHILD = (sys.executable, "-P", str(Path(acting.__file__)))


def program(act: Act) -> DeviceProgram:
    fill = Fill(pointer=Pointer(space=Space.ARENA), bytes=4, value=int(act))
    return DeviceProgram(inputs=(), outputs=(), arena_bytes=4, steps=(Step(layer="layer", fill=fill),))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def rehearsals(said: list[str]) -> Iterator[Rehearsals]:
    made = Rehearsals(say=said.append, command=CHILD, run_seconds=200)
    yield made
    made.close()


def rehearse(rehearsals: Rehearsals, act: Act) -> None:
    rehearsals.rehearse(program(act), {}, {})


def number_of(rehearsals: Rehearsals) -> int:
    """Of the child's process; 0 where there is none."""
    return 0 if rehearsals._child is None else rehearsals._child.process.pid


def test_one_child_runs_what_does_no_harm(rehearsals: Rehearsals) -> None:
    rehearse(rehearsals, Act.FINE)
    first = number_of(rehearsals)
    rehearse(rehearsals, Act.SHOUTS)
    rehearse(rehearsals, Act.FINE)
    assert number_of(rehearsals) == first
    assert not rehearsals.wary


def test_a_refusal_is_told_in_its_own_words_and_costs_no_child(rehearsals: Rehearsals) -> None:
    rehearse(rehearsals, Act.FINE)
    first = number_of(rehearsals)
    with pytest.raises(RehearsalError, match=r"^the graph is refused\.$"):
        rehearse(rehearsals, Act.RAISES)
    assert number_of(rehearsals) == first


def test_a_crash_is_the_candidates_and_the_next_one_gets_a_new_child(rehearsals: Rehearsals) -> None:
    with pytest.raises(RehearsalError, match=r"the process that ran it was ended by SIGABRT"):
        rehearse(rehearsals, Act.ABORTS)
    assert rehearsals.wary
    rehearse(rehearsals, Act.FINE)


def test_a_candidate_that_hangs_is_ended_in_time(rehearsals: Rehearsals) -> None:
    rehearse(rehearsals, Act.FINE)
    rehearsals.run_seconds = 1.0
    started = time.monotonic()
    with pytest.raises(RehearsalError, match=r"did not end within 1 s"):
        rehearse(rehearsals, Act.HANGS)
    assert time.monotonic() - started < 100
    rehearsals.run_seconds = 200.0
    rehearse(rehearsals, Act.FINE)


def test_an_error_that_sticks_to_its_process_ends_that_process_alone(rehearsals: Rehearsals) -> None:
    with pytest.raises(RehearsalError, match="illegal memory access"):
        rehearse(rehearsals, Act.STICKS)
    assert rehearsals.wary
    rehearse(rehearsals, Act.FINE)


def test_the_child_gets_the_very_arrays_and_blobs(rehearsals: Rehearsals) -> None:
    blobs = dict.fromkeys(("first", "again"), b"the same bytes")
    feed = {"x": np.arange(6, dtype=np.float16).reshape(2, 3), "empty": np.zeros((0, 4), np.int64)}
    with pytest.raises(RehearsalError) as failure:
        rehearsals.rehearse(program(Act.CHECKS), blobs, feed)
    assert str(failure.value) == (
        "{'x': ('float16', (2, 3), 15.0), 'empty': ('int64', (0, 4), 0.0)} [('first', 14), ('again', 14)]"
    )


@pytest.mark.parametrize("command", [(sys.executable, "-c", "import os; os.abort()"), (sys.executable, "-c", "")])
def test_where_no_child_can_be_had_it_is_said_once_and_nothing_is_lost(said: list[str], command: tuple[str]) -> None:
    rehearsals = Rehearsals(say=said.append, command=command)
    for _ in range(2):
        rehearse(rehearsals, Act.ABORTS)
    assert len(said) == 1
    assert "tried in this one" in said[0]


def test_a_child_that_says_too_much_is_not_listened_to(said: list[str]) -> None:
    talks = "import sys; from multiprocessing.connection import Connection; c = Connection(int(sys.argv[1])); "
    talks += "c.send_bytes(b'{}'); c.recv_bytes(); c.send_bytes(b'x' * (1 << 20)); c.recv_bytes()"
    rehearsals = Rehearsals(say=said.append, command=(sys.executable, "-c", talks))
    with pytest.raises(RehearsalError, match="the process that ran it"):
        rehearse(rehearsals, Act.FINE)


def test_the_probe_is_a_program_that_a_session_takes() -> None:
    validation.check(probe.PROGRAM, what="the probe", blob_bytes=lambda _name: None)


def test_a_closed_stage_leaves_no_process(said: list[str]) -> None:
    rehearsals = Rehearsals(say=said.append, command=CHILD)
    rehearse(rehearsals, Act.FINE)
    child = rehearsals._child
    rehearsals.close()
    assert child is not None
    assert child.process.returncode == 0
