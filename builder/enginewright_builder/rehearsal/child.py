"""The child process: runs each program that it is sent once, as the tuner will, and says how that ended.

    python -m enginewright_builder.rehearsal.child FILE_DESCRIPTOR

It ends when the builder hangs up, and after an error that left its GPU unusable: errors of kernels may stick to the
process, and whatever ran next would fail for them.
"""

import os
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from enginewright_builder.rehearsal import probe, wire
from enginewright_builder.rehearsal.wire import Verdict
from enginewright_runtime.errors import EnginewrightError

if TYPE_CHECKING:  # what the tuner is made of takes seconds to import
    from enginewright_builder.device.trial import Bench

_TEXT = 2000  # characters of a failure


def serve(connection: Connection, bench: "Bench") -> None:
    """Answer until the builder hangs up or the bench is unusable."""
    wire.answer(connection, Verdict())
    for program, blobs, feed in wire.requests(connection):
        try:
            with bench.opened(program, blobs) as running:
                running.run(feed)
                running.microseconds(1)
        except EnginewrightError as error:
            sticks = probe.stuck(bench, error)
            wire.answer(connection, Verdict(failure=error.message[:_TEXT], ends=sticks))
            if sticks:
                return
        else:
            wire.answer(connection, Verdict())


def connected(descriptor: int) -> Connection:
    """The way to the builder. What libraries print on standard output goes nowhere: only verdicts are answers."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return Connection(descriptor)


def main(arguments: list[str]) -> None:
    """On this machine's GPU."""
    from enginewright_builder.device.session_bench import SessionBench  # needs CUDA's bindings and a GPU

    bench = SessionBench()
    with connected(int(arguments[0])) as connection:
        probe.run(bench)  # a GPU that takes one process only is no candidate's fault: then nobody hears "ready"
        serve(connection, bench)


if __name__ == "__main__":
    main(sys.argv[1:])
