"""Rehearsals as the tuner asks for them: one long-lived child, started when it is first needed and again when it died.

What ends the child, or keeps it for longer than any candidate may take, is the failure of the candidate that it ran.
From the first loss on the tuner is wary, and has every candidate rehearsed.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from enginewright_builder.rehearsal import wire
from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.values import Array
from enginewright_runtime.errors import EnginewrightError, PlanError

COMMAND = (sys.executable, "-P", "-m", "enginewright_builder.rehearsal.child")
START_SECONDS = 120.0  # for importing CUDA's libraries and opening the GPU
_GRACE = 5.0  # seconds for ending
RUN_SECONDS = 60.0  # for one candidate: most take milliseconds, and cuDNN compiles some while it loads them


class RehearsalError(EnginewrightError):
    """A candidate did not survive its first run, in the words of the report."""


@dataclass(slots=True)
class _Child:
    """A process and the way to it."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    connection: Connection

    def kill(self) -> None:
        """At once, and whoever waits for it hears so even where the driver keeps the process from dying."""
        self.process.kill()
        self.line.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """It ends by itself when nobody asks any more."""
        self.connection.close()
        self.line.close()
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE)


@dataclass(slots=True, kw_only=True)
class Rehearsals:
    """`say` hears once where no child can be started: then candidates are tried in the builder's own process."""

    say: Callable[[str], None]
    command: Sequence[str] = COMMAND
    start_seconds: float = START_SECONDS
    run_seconds: float = RUN_SECONDS
    wary: bool = False  # whether a child was lost
    _child: _Child | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def rehearse(self, program: DeviceProgram, blobs: Mapping[str, bytes], feed: Mapping[str, Array]) -> None:
        """Run a program once in the child. Raises RehearsalError where it fails there, or takes the child with it."""
        child = self._ready()
        if child is None:
            return
        with self._watched(child, self.run_seconds) as hung:
            try:
                wire.ask(child.connection, program, blobs, feed)
                verdict = wire.verdict(child.connection)
            except (OSError, EOFError, PlanError) as error:
                raise self._lost(child, hung) from error
        if verdict.ends or hung.is_set():
            self._drop(child)
        if verdict.failure:
            raise RehearsalError(verdict.failure)

    def close(self) -> None:
        """End the child."""
        self._closed = True
        if self._child is not None:
            self._child.end()
            self._child = None

    def _ready(self) -> _Child | None:
        """The child; None where there can be none."""
        if self._child is not None or self._closed:
            return self._child
        child = _started(self.command)
        with self._watched(child, self.start_seconds):
            try:
                wire.verdict(child.connection)
            except (OSError, EOFError, PlanError):
                child.process.kill()
                child.end()
                self._closed = True
                self.say(
                    "No process for risky candidates could be started, so they are tried in this one: a candidate that "
                    "crashes ends the build. Give the GPU to several processes (nvidia-smi -c DEFAULT) to be safe."
                )
                return None
        self._child = child
        return child

    @contextmanager
    def _watched(self, child: _Child, seconds: float) -> Iterator[threading.Event]:
        """Kill the child after so many seconds, which ends every wait for it; the event says that it was so."""
        hung = threading.Event()

        def end() -> None:
            hung.set()
            child.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield hung
        finally:
            timer.cancel()

    def _lost(self, child: _Child, hung: threading.Event) -> RehearsalError:
        """What became of it, in words."""
        self._drop(child)
        code = child.process.returncode
        if hung.is_set() or code is None:
            return RehearsalError(f"it did not end within {self.run_seconds:g} s, in a process of its own.")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RehearsalError(f"the process that ran it {how}.")

    def _drop(self, child: _Child) -> None:
        self.wary = True
        self._child = None
        child.end()


def _started(command: Sequence[str]) -> _Child:
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    finally:
        theirs.close()
    return _Child(process, ours, Connection(os.dup(ours.fileno())))


@contextmanager
def opened(say: Callable[[str], None]) -> Iterator[Rehearsals]:
    """On this machine's GPU, the child ended when the tuner is done."""
    rehearsals = Rehearsals(say=say)
    try:
        yield rehearsals
    finally:
        rehearsals.close()
