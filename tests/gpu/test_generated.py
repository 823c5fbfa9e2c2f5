"""Generated kernels on a card: every schedule of every computation of the catalog, as the host runs them elsewhere."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import one_layer
import pytest
from cuda_on_host import catalog

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import reference
from enginewright_builder.device.emit_cuda import Emitted, emit
from enginewright_builder.device.implementation import Device, Implementation
from enginewright_builder.device.loops import loops
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.schedule_kernel import schedules
from enginewright_runtime.engine import available
from enginewright_runtime.engine.cuda.program import Step

pytestmark = pytest.mark.gpu


def emitted(case: catalog.Case) -> dict[str, Emitted]:
    """A kernel for each schedule, by its name."""
    given = (case.computations, case.inputs, case.outputs)
    found = schedules(loops(*given, rows=False), loops(*given, rows=True), case.outputs)
    return {each.name: emit(*given, each) for each in found}


@pytest.mark.parametrize("case", catalog.small(), ids=lambda case: case.name)
def test_every_schedule_computes_what_the_expression_means(case: catalog.Case, device: Device) -> None:
    kernels, arrays = emitted(case), case.arrays()
    wanted = [reference.evaluate(each, arrays) for each in case.computations]
    problem = Problem(kind=Kind.COMPUTATION, inputs=tuple(case.inputs), outputs=tuple(case.outputs), attributes={})
    with ThreadPoolExecutor(available.processors()) as pool:
        cubins = list(pool.map(lambda each: compiler.compile(each.source, device.architecture), kernels.values()))
    for (schedule, made), cubin in zip(kernels.items(), cubins, strict=True):
        alone = Implementation(steps=(Step(layer=schedule, kernel=made.kernel),), cubins={"kernel": cubin})
        found = one_layer.run(alone, problem, dict(enumerate(arrays)))
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), rtol=1e-3, atol=1e-3, err_msg=schedule
            )
