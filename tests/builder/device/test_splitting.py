"""Long reductions in parts: the same result, in two stages, and only where one row leaves a GPU idle."""

import numpy as np
from cuda_on_host import catalog

from enginewright_builder.device import reference
from enginewright_builder.device.expression import Axis, Computation, Index, Load, Reduction
from enginewright_builder.device.splitting import split
from enginewright_builder.device.stages import Held, Holder, Stage, Staged


def _staged(case: catalog.Case) -> Staged:
    inputs = tuple(
        Held(holder=Holder.OPERAND, name=f"x{n}", dtype=kind.dtype, shape=kind.shape)
        for n, kind in enumerate(case.inputs)
    )
    output = Held(holder=Holder.OPERAND, name="y", dtype=case.outputs[0].dtype, shape=case.outputs[0].shape)
    return Staged(stages=(Stage(computation=case.computations[0], inputs=inputs, output=output),), constants={})


def _run(staged: Staged, case: catalog.Case, arrays: list[np.ndarray]) -> np.ndarray:
    known = {f"x{n}": array for n, array in enumerate(arrays)}
    for stage in staged.stages:
        operands = [None if held is None else known[held.name] for held in stage.inputs]
        known[stage.output.name] = reference.evaluate(stage.computation, operands)
    return known["y"]


def test_the_mean_of_a_whole_tensor_is_taken_in_parts():
    case = catalog.mean_all(1 << 21)
    made = split(_staged(case))
    assert [stage.output.shape for stage in made.stages] == [(1024,), ()]
    arrays = case.arrays()
    np.testing.assert_allclose(_run(made, case, arrays), np.mean(arrays[0], dtype=np.float64), rtol=1e-4, atol=1e-6)


def test_a_norm_over_pixels_has_both_its_sums_in_parts():
    case = catalog.instance_norm(2, 4, 512, 512, True)
    made = split(_staged(case))
    assert len(made.stages) == 3
    arrays = case.arrays()
    np.testing.assert_allclose(
        _run(made, case, arrays).astype(np.float32), _run(_staged(case), case, arrays).astype(np.float32), atol=2e-3
    )


def test_many_rows_are_work_enough_as_they_are():
    staged = _staged(catalog.layer_norm(4096, 1024))
    assert split(staged) is staged


def test_a_short_reduction_stays_whole():
    staged = _staged(catalog.mean_all(1 << 12))
    assert split(staged) is staged


def test_a_length_without_divisors_stays_whole():
    prime = 2097169
    body = Load(0, (Index("k"),), "float32")
    value = Reduction("sum", (Axis("k", prime),), body, "float32")
    case = catalog.mean_all(prime)
    made = Computation(shape=(), dtype="float32", value=value)
    staged = _staged(catalog.Case(name="prime", computations=(made,), inputs=case.inputs, outputs=case.outputs))
    assert split(staged) is staged
