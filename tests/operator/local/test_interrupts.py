"""A signal that comes at the worst moment leaves nothing behind and hangs nothing."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from enginewright_operator.local import interrupts, processes

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(autouse=True)
def _signals_end_us():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.sigterm_as_interrupt():
        yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def sleeper():
    with subprocess.Popen(SLEEPS) as process:
        yield process
        process.kill()


both = pytest.mark.parametrize("number", interrupts.ENDING)


@both
def test_a_signal_while_held_comes_at_the_end(number) -> None:
    done = []

    def both_steps():
        with interrupts.held() as came:
            signal.raise_signal(number)
            done.extend(came)

    with pytest.raises(KeyboardInterrupt):
        both_steps()
    assert done == [number]


@both
def test_the_signals_do_afterwards_what_they_did_before(number) -> None:
    before = signal.getsignal(number)
    with interrupts.held():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_an_inner_hold_leaves_the_signal_to_the_outer() -> None:
    done = []

    def outer():
        with interrupts.held():
            with interrupts.held():
                signal.raise_signal(signal.SIGINT)
            done.append("after the inner one")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["after the inner one"]


def test_a_signal_that_is_ignored_is_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.held() as came:
        signal.raise_signal(signal.SIGINT)
    assert came == []


@both
def test_a_signal_that_comes_while_a_process_starts_leaves_no_process_behind(number, monkeypatch, tmp_path) -> None:
    started = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *words, **more):
            super().__init__(*words, **more)
            started.append(self)
            signal.raise_signal(number)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    container = processes.containers.Words(words=tuple(SLEEPS), environment={}, termination_log=tmp_path / "log")
    with pytest.raises(KeyboardInterrupt), ExitStack() as ends, (tmp_path / "out").open("wb") as out:
        processes._start(container, ends, grace=30, output=out.fileno(), own_session=True)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


@both
def test_a_signal_that_comes_while_a_process_is_asked_for_leaves_it_usable(number, sleeper, monkeypatch) -> None:
    asked = sleeper.poll

    def with_the_lock_taken():
        with sleeper._waitpid_lock:
            signal.raise_signal(number)
        return asked()

    with monkeypatch.context() as patch:
        patch.setattr(sleeper, "poll", with_the_lock_taken)
        with pytest.raises(KeyboardInterrupt):
            processes.wait(sleeper)
    assert processes.end(sleeper, grace=30) == -signal.SIGTERM


def test_one_more_signal_while_a_process_is_being_ended_kills_it() -> None:
    impatient = f"lambda *_: os.kill({os.getpid()}, {signal.SIGINT:d})"  # our own SIGTERM makes it send the other
    deaf = f"import os, signal, time; signal.signal(15, {impatient}); os.write(1, b'.'); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        with pytest.raises(KeyboardInterrupt):
            processes.end(process, grace=250)
        assert process.returncode == -signal.SIGKILL
