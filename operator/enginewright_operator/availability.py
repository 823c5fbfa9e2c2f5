"""The condition GPUAvailable: whether a node has the GPU that a target names, and which GPUs there are otherwise. Pure.

It stays true or false whatever else is the matter with an engine; where no target needs a GPU, or nodes may not be
read, there is no such condition.
"""

import datetime
from collections.abc import Iterable, Sequence

from enginewright_operator import api, gpu, gpu_words
from enginewright_operator.conditions import Reason, State, Verdict, condition
from enginewright_runtime.plan.target import TargetKind

TYPE = "GPUAvailable"


def of_target(gpu_class: api.GPUClass | None, nodes: Iterable[gpu.Node] | None) -> Verdict | None:
    """Of one target; None where the class is unknown or needs no GPU, or nodes may not be read."""
    if gpu_class is None or nodes is None or gpu_class.spec.kind is not TargetKind.CUDA:
        return None
    name, nodes = gpu_class.metadata.name, tuple(nodes)
    if why := gpu_words.why_none(name, gpu_class.spec, nodes):
        return Verdict(state=State.STALLED, reason=Reason.NO_MATCHING_NODE, message=why)
    found = gpu_words.describe_products(
        (node for node in nodes if gpu.matches(gpu_class.spec, node)), of=gpu_class.spec
    )
    return Verdict(state=State.READY, reason=Reason.GPU_FOUND, message=f"Of the GPUClass {name} there is: {found}.")


def of_engine(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """Of all targets: the sentences of those whose GPU is missing, else of all."""
    known = [verdict for verdict in verdicts if verdict is not None]
    said = [verdict for verdict in known if verdict.state is State.STALLED] or known
    if not said:
        return None
    return Verdict(state=said[0].state, reason=said[0].reason, message=" ".join(verdict.message for verdict in said))


def conditions(
    verdict: Verdict | None, *, generation: int, before: Iterable[api.Condition], now: datetime.datetime
) -> tuple[api.Condition, ...]:
    """The condition, where there is a verdict."""
    if verdict is None:
        return ()
    known = next((each for each in before if each.type == TYPE), None)
    status = str(verdict.state is State.READY)
    return (condition(TYPE, status, verdict, generation=generation, before=known, now=now),)
