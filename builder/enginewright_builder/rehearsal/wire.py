"""What a builder and its rehearsing child say to each other: JSON and bytes over one connection, nothing executable.

A request is a Rehearsal as JSON, then the bytes of each blob and of each input, in its order. The answer is one
Verdict. Before the first request the child says one, for being ready.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from enginewright_runtime.engine.cuda.program import DeviceProgram
from enginewright_runtime.engine.values import Array, dtype_of
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Binding

MOST_ANSWER = 64 << 10  # bytes of an answer: whoever runs a candidate is not trusted with the builder's memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A program to run once: its blobs and inputs in the order in which their bytes follow."""

    program: DeviceProgram
    blobs: tuple[str, ...]
    inputs: tuple[Binding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why the program failed ("": it ran), and whether the child ends because its GPU is unusable now."""

    failure: str = ""
    ends: bool = False


def ask(connection: Connection, program: DeviceProgram, blobs: Mapping[str, bytes], feed: Mapping[str, Array]) -> None:
    """Send a request. Raises OSError where the child is gone."""
    inputs = tuple(Binding(name=name, dtype=array.dtype.name, shape=array.shape) for name, array in feed.items())
    connection.send_bytes(records.canonical(Rehearsal(program=program, blobs=tuple(blobs), inputs=inputs)))
    for data in blobs.values():
        connection.send_bytes(data)
    for array in feed.values():
        connection.send_bytes(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def requests(connection: Connection) -> Iterator[tuple[DeviceProgram, dict[str, bytes], dict[str, Array]]]:
    """What is asked, one after another, until the builder hangs up."""
    while True:
        try:
            text = connection.recv_bytes()
        except EOFError:
            return
        what = "the rehearsal"
        asked = records.from_json(Rehearsal, records.parse(text, what=what), what=what)
        blobs = {name: connection.recv_bytes() for name in asked.blobs}
        feed: dict[str, Array] = {}
        for each in asked.inputs:
            array = np.frombuffer(connection.recv_bytes(), dtype_of(each.dtype))
            feed[each.name] = array.reshape(each.shape or ())
        yield asked.program, blobs, feed


def answer(connection: Connection, verdict: Verdict) -> None:
    """Send a verdict."""
    connection.send_bytes(records.canonical(verdict))


def verdict(connection: Connection) -> Verdict:
    """The next answer. Raises EOFError and OSError where the child is gone or says too much, PlanError for nonsense."""
    text = connection.recv_bytes(MOST_ANSWER)
    return records.from_json(Verdict, records.parse(text, what="the verdict"), what="the verdict")
