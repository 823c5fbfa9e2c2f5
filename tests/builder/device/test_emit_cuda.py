"""What generated kernels compute, run on the host, against the reference; and that NVRTC takes them for every GPU."""

from dataclasses import replace

import numpy as np
import pytest
from cuda_on_host import catalog, running

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import reference
from enginewright_builder.device.emit_cuda import Emitted, emit
from enginewright_builder.device.loops import loops
from enginewright_builder.device.schedule_kernel import Schedule, Shape, schedules
from enginewright_builder.device.tensors import plain

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120")
REPRESENTATIVE = (
    catalog.add_relu((2, 24, 5, 7)),
    catalog.softmax((3, 1000)),
    catalog.global_mean(2, 24, 7, 7, True),
    catalog.arg_max(4, 77),
    catalog.transpose((70, 66), (1, 0)),
    catalog.instance_norm(1, 24, 9, 5, True),
)


def _jobs(case: catalog.Case) -> list[tuple[Schedule, Emitted]]:
    given = (case.computations, case.inputs, case.outputs)
    flat, shared = loops(*given, rows=False), loops(*given, rows=True)
    return [(each, emit(*given, each)) for each in schedules(flat, shared, case.outputs)]


@pytest.fixture(scope="module")
def emitted() -> dict[str, list[tuple[Schedule, Emitted]]]:
    """All kernels of the catalog, built in one go."""
    jobs = {case.name: _jobs(case) for case in catalog.small()}
    running.prepare((each.source, each.kernel.function) for made in jobs.values() for _, each in made)
    return jobs


@pytest.mark.parametrize("case", catalog.small(), ids=lambda case: case.name)
def test_every_schedule_computes_what_the_expression_means(case, emitted):
    arrays = case.arrays()
    wanted = [reference.evaluate(each, arrays) for each in case.computations]
    for schedule, made in emitted[case.name]:
        found = running.outputs_of(made, case.inputs, case.outputs, arrays)
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), rtol=1e-3, atol=1e-3, err_msg=schedule.name
            )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("case", REPRESENTATIVE, ids=lambda case: case.name)
def test_kernels_compile_for_every_architecture(case, architecture):
    assert compiler.compile(_first(case), architecture)[:4] == b"\x7fELF"


def _first(case: catalog.Case) -> str:
    """The best guess's text, without what stands in every kernel."""
    return _jobs(case)[0][1].source


def test_a_pointwise_layer_over_equal_layouts_needs_no_division():
    text = _first(catalog.add_relu((2, 24, 5, 8))).split("begin();")[1]
    assert "/" not in text
    assert "%" not in text


def test_neighbours_are_loaded_and_stored_in_sixteen_bytes():
    case = catalog.add_relu((2, 24, 5, 7))
    text = emit(case.computations, case.inputs, case.outputs, Schedule(shape=Shape.COLUMNS, vector=8)).source
    assert "read_pack<8>(" in text
    assert "write_pack<8>(out0" in text


def test_an_operand_that_is_less_aligned_is_loaded_in_smaller_pieces():
    case = catalog.add_relu((2, 24, 5, 7))
    inputs = (replace(case.inputs[0], alignment=4), case.inputs[1])
    made = emit(case.computations, inputs, case.outputs, Schedule(shape=Shape.COLUMNS, vector=8))
    assert "read_pack<2>(t3, in0" in made.source
    assert "in1" in made.source.split("read_pack<8>(")[1]


def test_nothing_is_read_before_the_previous_kernel_has_ended():
    body = _first(catalog.softmax((3, 1000))).split("computation(")[1]
    assert body.index("begin();") < body.index("read_pack")


@pytest.mark.parametrize("residual", [False, True])
def test_constants_that_all_rows_read_alike_are_read_before_the_wait_and_change_nothing(residual):
    case = catalog.layer_norm(6, 200, residual=residual)
    given = (case.computations, case.inputs, case.outputs)
    found = schedules(loops(*given, rows=False), loops(*given, rows=True), case.outputs)
    rows = [each for each in found if each.shape is Shape.ROWS and each.team >= 32]  # with room in their registers
    both = [(each.name, emit(*given, each), emit(*given, each, constant=frozenset({1, 2}))) for each in rows]
    assert both
    running.prepare((made.source, made.kernel.function) for _, *pair in both for made in pair)
    arrays = case.arrays()
    for name, late, early in both:
        before, after = early.source.split("computation(")[1].split("begin();")
        read = [[number for number in range(4) if f"in{number} +" in text] for text in (before, after)]
        assert read == [[1, 2], [0, 3] if residual else [0]], name
        wanted, got = (running.outputs_of(made, case.inputs, case.outputs, arrays) for made in (late, early))
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def test_a_row_is_read_once():
    assert _first(catalog.softmax((3, 1000))).split("computation(")[1].count("in0 +") == 1


def test_conditions_that_always_hold_are_left_out():
    assert "if (" not in _first(catalog.max_pool(1, 8, 16, 2, 2, 0)).split("begin();")[1].split("write_pack")[0]


def test_tensors_of_more_than_two_gigabytes_are_addressed_in_64_bits():
    text = _first(catalog.add_relu((4, 1 << 28), plain))
    assert "const int64 i0" in text
    assert compiler.compile(text, "sm_90a")[:4] == b"\x7fELF"


def test_the_roomier_text_differs_in_its_bound_alone():
    case = catalog.add_relu((2, 24, 5, 7))
    made = emit(case.computations, case.inputs, case.outputs, Schedule(shape=Shape.COLUMNS, threads=128))
    assert made.roomier.count("__launch_bounds__(128, 1) computation(") == 1
    assert made.roomier.replace("(128, 1)", "(128)") == made.source


def test_an_empty_output_needs_no_kernel():
    case = catalog.add_relu((2, 0), plain)
    assert emit(case.computations, case.inputs, case.outputs, Schedule(shape=Shape.COLUMNS)).kernel is None
