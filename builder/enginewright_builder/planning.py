"""One schedule: a network with its shapes fixed, through the passes and the tuning, to a segment that is chosen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache

from enginewright_builder import emit, memory, passes
from enginewright_builder.calibration.samples import Samples
from enginewright_builder.emit import Blobs
from enginewright_builder.network import layers, lowering, specialize
from enginewright_builder.network.network import Network
from enginewright_builder.plugins import emission
from enginewright_builder.report import ScheduleFacts
from enginewright_builder.tactics import machine, table
from enginewright_builder.tactics.table import Candidate
from enginewright_builder.tactics.variant import Variant
from enginewright_builder.tuning import bounds, inputs, randomness, rounding, trial, tune
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.inputs import Proof, Reference
from enginewright_runtime.errors import PlanError, UnsupportedError
from enginewright_runtime.plan.manifest import Binding, Golden, Schedule, Segment
from enginewright_runtime.plan.recipe import Effort

Shapes = Mapping[str, tuple[int, ...]]
GOLDEN_LIMIT = 64 << 20  # bytes: a golden that is larger would weigh more than most models


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One finished schedule, its goldens, a feed to measure with (None where none could be made up), and the facts."""

    schedule: Schedule
    goldens: tuple[Golden, ...]
    proof: Proof
    facts: ScheduleFacts


@contextmanager
def reference(network: Network, blobs: Blobs) -> Iterator[Reference]:
    """The untouched model, its shapes free as imported, in ONNX Runtime without any optimization: what is right.

    Raises UnsupportedError where ONNX Runtime does not run it.
    """
    segment = trial.with_options(_reference(network, blobs), tune.REFERENCE)
    taken = tuple(emit.binding(value) for value in network.inputs)
    given = tuple(emit.binding(value) for value in network.outputs)
    with ExitStack() as stack:
        try:
            run = stack.enter_context(trial.loaded(segment, taken, given, blobs))
        except PlanError as error:
            raise UnsupportedError(f"The model cannot be run, whatever is built from it: {error.message}") from error
        yield run


def schedule(
    *,
    index: int,
    network: Network,
    shapes: Shapes,
    samples: Samples | None,
    right: Reference,
    blobs: Blobs,
    effort: Effort,
    step: Callable[[str], None],
    deadline: Deadline,
) -> Built:
    """Build the schedule `index` of `network` for `shapes`; `right` computes what is right, `step` hears progress."""
    untouched = specialize.with_shapes(network, shapes)
    taken = tuple(emit.binding(value) for value in untouched.inputs)
    given = tuple(emit.binding(value) for value in untouched.outputs)
    fused = untouched.copy()
    step("passes")
    told = passes.run(fused, passes.PIPELINE)
    segments = _segments(fused, untouched, blobs, index)
    step("inputs to check with")
    made = proof(network, taken, samples, right)
    kind = bounds.arithmetic(network)
    task = tune.Task(
        inputs=taken,
        outputs=given,
        segments=segments,
        reference=_reference(network, blobs),
        proof=made,
        arithmetic=kind,
        blobs=blobs,
    )
    candidates = _candidates(effort, fused, segments)
    with ExitStack() as stack:
        moved = cache(lambda: stack.enter_context(reference(rounding.nudged(network), Blobs())))
        decided = cache(lambda: rounding.decides(task.proof, moved(), kind))
        tuned = tune.tune(task, candidates, tune.BUDGETS[effort], step, deadline, decided)
        if tuned.none_right and decided():
            step("inputs on which rounding does not decide")
            made = rounding.undecided(task.proof, taken, right, moved(), kind, deadline)
    if made is not task.proof:
        tuned = tune.tune(replace(task, proof=made), candidates, tune.BUDGETS[effort], step, deadline)
    final = fused if tuned.variant is not Variant.UNTOUCHED else untouched
    arena = memory.plan(final)
    return Built(
        schedule=Schedule(inputs=taken, outputs=given, segments=(tuned.segment,), arena=arena),
        goldens=goldens(index, made, kind, blobs),
        proof=made,
        facts=ScheduleFacts(
            shapes=in_words(taken),
            layers_before=layers.count(network),
            layers_after=layers.count(final),
            kinds=layers.kinds(final),
            passes=told,
            checked_with=made.source or f"not checked: {made.reason}",
            arena=arena,
            tuned=tuned,
        ),
    )


def candidates_of(effort: Effort, network: Network) -> int:
    """How many candidates a schedule will have at most: for a progress bar."""
    every = dict.fromkeys(Variant)
    return len(table.candidates(effort, machine.describe(network), every))


def _reference(network: Network, blobs: Blobs) -> Segment:
    return emission.segment(network.copy().model, network.plugins, blobs, "segments/reference.onnx")


def _segments(fused: Network, untouched: Network, blobs: Blobs, index: int) -> dict[Variant, Segment]:
    """A segment for each variant; variants that come to the same bytes are left out, the simplest name stays."""
    models = {
        Variant.FUSED: lowering.to_onnx(fused),
        Variant.CONTRIB: lowering.to_onnx(fused, contrib=True),
        Variant.UNTOUCHED: untouched.copy().model,
    }
    made: dict[Variant, Segment] = {}
    for variant, model in models.items():
        segment = emission.segment(model, untouched.plugins, blobs, f"segments/{index}.{variant}.onnx")
        if variant is Variant.UNTOUCHED or segment.blob not in {other.blob for other in made.values()}:
            made[variant] = segment
    return made


def _candidates(effort: Effort, network: Network, segments: Mapping[Variant, Segment]) -> tuple[Candidate, ...]:
    variants = {variant: segment for variant, segment in segments.items()}
    if Variant.FUSED in segments and segments[Variant.FUSED].blob == segments[Variant.UNTOUCHED].blob:
        del variants[Variant.FUSED]  # no pass changed anything: the untouched network says it best
    return table.candidates(effort, machine.describe(network), variants)


def proof(network: Network, taken: tuple[Binding, ...], samples: Samples | None, right: Reference) -> Proof:
    """Feeds to check with and what the untouched model gives for them; why not, where there can be none."""
    unsteady = randomness.reason(network)
    if unsteady:
        return Proof(reason=unsteady)
    return inputs.prove_with(taken, samples, right)


def goldens(index: int, made: Proof, kind: Arithmetic, blobs: Blobs) -> tuple[Golden, ...]:
    """The goldens of a schedule; none where nothing could be checked, or where they would be too large."""
    if not made.feeds or _size(made) > GOLDEN_LIMIT:
        return ()
    return emit.goldens(index, made.feeds[0], made.expected[0], kind, blobs)


def in_words(taken: Sequence[Binding]) -> str:
    """The inputs with their shapes, for reports."""
    return ", ".join(f"{b.name} {list(b.shape) if b.shape is not None else b.container}" for b in taken)


def _size(proof: Proof) -> int:
    values = (*proof.feeds[0].values(), *proof.expected[0].values())
    return sum(int(getattr(value, "nbytes", 0)) for value in values)
