"""The table of tactics: its order is the tie-break, its lines explain themselves."""

from pathlib import Path

import pytest

from enginewright_builder.tactics import machine
from enginewright_builder.tactics.table import TACTICS, Machine, candidates
from enginewright_builder.tactics.variant import Variant
from enginewright_runtime.engine.host_options import read_options
from enginewright_runtime.plan.recipe import Effort

LAPTOP = Machine(processors=8, cores=4, branches=True)
EVERY = dict.fromkeys(Variant)


def names(effort: Effort, where: Machine = LAPTOP) -> list[str]:
    return [candidate.name for candidate in candidates(effort, where, EVERY)]


@pytest.mark.parametrize("tactic", TACTICS, ids=lambda tactic: tactic.name)
def test_every_tactic_has_a_reason_and_options_that_the_executor_takes(tactic: object) -> None:
    assert tactic in TACTICS
    for each in (t for t in TACTICS if t is tactic):
        assert len(each.reason) > 20
        read_options(each.options(LAPTOP), each.name)


def test_names_are_unique_so_that_a_report_can_be_read() -> None:
    assert len(set(names(Effort.THOROUGH))) == len(names(Effort.THOROUGH))


def test_more_effort_tries_all_that_less_effort_does() -> None:
    fast, balanced, thorough = (set(names(effort)) for effort in Effort)
    assert fast < balanced < thorough


def test_the_order_is_from_simple_to_costly_and_our_network_before_the_untouched() -> None:
    assert names(Effort.FAST) == [
        "fused, 1 thread",
        "untouched, 1 thread",
        "fused, all threads",
        "untouched, all threads",
        "fused, physical cores",
        "untouched, physical cores",
    ]


@pytest.mark.parametrize("effort", list(Effort))
def test_the_untouched_model_with_the_libraries_defaults_is_always_a_candidate(effort: Effort) -> None:
    assert "untouched, all threads" in names(effort)


def test_a_machine_of_one_processor_tries_one_thread_only() -> None:
    tried = names(Effort.BALANCED, Machine(processors=1, cores=1, branches=True))
    assert all("1 thread" in name for name in tried)


def test_parallel_branches_need_branches() -> None:
    straight = Machine(processors=8, cores=8, branches=False)
    assert not [name for name in names(Effort.THOROUGH, straight) if "parallel" in name]
    assert [name for name in names(Effort.BALANCED) if "parallel" in name]


def test_variants_that_there_are_not_are_not_tried() -> None:
    tried = candidates(Effort.THOROUGH, LAPTOP, {Variant.UNTOUCHED: None})
    assert {candidate.variant for candidate in tried} == {Variant.UNTOUCHED}


def test_siblings_of_a_core_count_once(tmp_path: Path) -> None:
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert machine.cores(range(4), tmp_path) == 2
    assert machine.cores([0, 1], tmp_path) == 2
    assert machine.cores([0, 2], tmp_path) == 1


def test_a_machine_that_tells_no_siblings_has_a_core_a_processor(tmp_path: Path) -> None:
    assert machine.cores(range(3), tmp_path) == 3
