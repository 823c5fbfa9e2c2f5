"""What of this machine, and of a network's form, decides which tactics make sense."""

import os
from collections.abc import Iterable
from pathlib import Path

from enginewright_builder.network.network import Network
from enginewright_builder.tactics.table import Machine
from enginewright_runtime.engine import available

_TOPOLOGY = Path("/sys/devices/system/cpu")


def describe(network: Network) -> Machine:
    """The machine as the tactics' table asks for it."""
    processors = available.processors()
    return Machine(
        processors=processors,
        cores=min(processors, cores(os.sched_getaffinity(0), _TOPOLOGY)),
        branches=branches(network),
    )


def cores(processors: Iterable[int], topology: Path) -> int:
    """Physical cores among these CPUs: those that list the same siblings share one."""
    siblings = set()
    for number in processors:
        try:
            siblings.add((topology / f"cpu{number}/topology/thread_siblings_list").read_text(encoding="ascii").strip())
        except OSError:
            siblings.add(str(number))  # a machine that does not say has no siblings that we know of
    return len(siblings)


def branches(network: Network) -> bool:
    """Whether two layers could ever run side by side: some value feeds two layers, or two layers need only inputs."""
    roots = 0
    for node in network.layers():
        if any(len({use.node for use in value.uses()}) > 1 for value in node.outputs):
            return True
        roots += all(value is None or value.producer() is None for value in node.inputs)
    return roots > 1
