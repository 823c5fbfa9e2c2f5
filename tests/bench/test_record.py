"""The benchmark's record: ratios are of one race, and a second run does what the first did not."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from invented import COMPILE, EAGER, GRAPH, conditions, race, record, result
from peers import record as records
from peers.record import OURS, Declined


def test_a_ratio_is_the_peers_time_over_ours() -> None:
    assert race(ours=0.5, eager=4.0).ratio(EAGER) == 8.0


def test_there_is_no_ratio_with_a_peer_that_is_wrong() -> None:
    raced = race(ours=0.5, eager=4.0)
    wrong = replace(raced, results=dict(raced.results) | {EAGER: result(4.0, error=0.2)})
    assert wrong.ratio(EAGER) is None


def test_there_is_no_ratio_where_ours_is_wrong() -> None:
    raced = race(ours=0.5, eager=4.0)
    wrong = replace(raced, results=dict(raced.results) | {OURS: result(0.5, error=math.inf)})
    assert wrong.ratio(EAGER) is None


def test_what_was_written_reads_back(tmp_path: Path) -> None:
    raced = race(ours=0.5, eager=4.0, declined={COMPILE: Declined(reason="not ready within 9 s", late_after=9.0)})
    full = result(0.5, top1=1.0, sustained_ms=0.6, joules=0.1, mhz=(1500, 1980), throttled={"power limit": 0.25})
    kept = record(replace(raced, results=dict(raced.results) | {OURS: full}))
    records.write(tmp_path / "record.json", kept)
    assert records.read(tmp_path / "record.json") == kept


def test_a_record_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert records.read(tmp_path / "none.json").races == []


def test_everything_is_missing_at_first() -> None:
    assert record().missing("resnet50", 1, ["eager", "graph"], 60) == ["eager", "graph"]


def test_a_second_run_takes_only_the_peers_that_the_first_did_not() -> None:
    assert record(race(ours=1.0, eager=2.0)).missing("resnet50", 1, ["eager", "compile"], 60) == ["compile"]


def test_another_batch_is_missing_as_a_whole() -> None:
    assert record(race(ours=1.0, eager=2.0)).missing("resnet50", 8, ["eager"], 60) == ["eager"]


def test_nothing_is_missing_when_all_have_run_or_said_why_not() -> None:
    raced = race(ours=1.0, eager=2.0, declined={GRAPH: Declined(reason="it cannot be captured")})
    assert record(raced).missing("resnet50", 1, ["eager", "graph"], 60) is None


def test_who_was_cut_off_is_tried_again_only_with_more_time() -> None:
    raced = race(ours=1.0, declined={COMPILE: Declined(reason="not ready within 60 s", late_after=60.0)})
    assert record(raced).missing("resnet50", 1, ["compile"], 60) is None
    assert record(raced).missing("resnet50", 1, ["compile"], 300) == ["compile"]


def test_ours_alone_is_missing_where_it_was_cut_off_and_no_peer_is_wanted() -> None:
    assert record(race(eager=2.0)).missing("resnet50", 1, ["eager"], 60) == []


def test_another_gpu_needs_another_record() -> None:
    with pytest.raises(ValueError, match=r"begun on INVENTED GPU and this is OTHER GPU: name another --record"):
        record(race(ours=1.0)).under(conditions("OTHER GPU"))


def test_the_same_gpu_on_another_day_adds_its_conditions() -> None:
    kept = record(race(ours=1.0))
    assert kept.under(conditions()) == 1
