"""The benchmark's page and plot, from invented races."""

from dataclasses import replace
from pathlib import Path

import pytest
from invented import EAGER, GRAPH, race, record, result
from peers import report
from peers.record import NETWORKS, OURS, PEERS, Declined


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_ours_the_goal_each_peer_with_its_ratio_and_the_best_peer() -> None:
    table = report.speed(record(race("vgg19", 8, ours=0.5, eager=4.0, graph=2.0)))
    assert cells(table[0]) == ["network", "batch", "ours", "goal", EAGER, GRAPH, "best peer"]
    assert cells(table[2]) == ["VGG19", "8", "**0.500**", "0.7", "4.000 (8.0x)", "2.000 (4.0x)", f"4.0x ({GRAPH})"]


def test_a_peers_ratio_is_of_its_own_race_when_ours_ran_twice() -> None:
    table = report.speed(record(race(ours=0.10, eager=1.0), race(ours=0.20, compile=0.6)))
    assert cells(table[2])[4:6] == ["1.000 (10.0x)", "0.600 (3.0x)"]
    assert cells(table[2])[2] == "**0.200** (0.100 to 0.200)"


def test_a_wrong_contender_has_no_time() -> None:
    raced = race(ours=0.5, eager=4.0)
    wrong = replace(raced, results=dict(raced.results) | {OURS: result(0.5, error=0.5), EAGER: result(4.0, error=0.5)})
    assert cells(report.speed(record(wrong))[2]) == ["ResNet-50", "1", "**wrong**", "0.11", "wrong", "-"]
    assert "**5.0e-01**, allowed 0.03" in report.checks(record(wrong))[2]


def test_the_layers_before_and_after_stand_beside_ours() -> None:
    assert cells(report.checks(record(race(ours=0.1, eager=1.0)))[2])[2] == "ours, 9 → 3 layers"


def test_missed_goals_are_named() -> None:
    page = report.page(record(race(ours=0.12), race("bert", 1, ours=0.20)), "plot.svg")
    assert "**Goals missed:** ResNet-50 at 1 (0.120 of 0.11)." in page


def test_who_did_not_take_part_is_said_with_the_reason() -> None:
    declined = {PEERS["onnxruntime"]: Declined(reason="it has no CUDA provider")}
    page = report.page(record(race(ours=0.1, declined=declined)), "plot.svg")
    assert "* ResNet-50, batch 1: ONNX Runtime CUDA: it has no CUDA provider" in page


def test_who_was_late_once_and_ran_later_is_not_said_to_have_been_absent() -> None:
    declined = {PEERS["compile"]: Declined(reason="not ready within 9 s", late_after=9.0)}
    page = report.page(record(race(ours=0.1, declined=declined), race(ours=0.1, compile=0.5)), "plot.svg")
    assert "not ready" not in page


def test_too_few_equal_top_1_answers_are_marked() -> None:
    raced = replace(race(), pictures=512, classes=7, results={OURS: result(0.1, top1=0.99)})
    assert "99.00 % of 512, 7 classes (**too few**)" in report.checks(record(raced))[2]


def test_joules_clocks_and_throttling_stand_beside_the_errors() -> None:
    power = result(0.1, joules=0.0613, mhz=(1305, 1980), sustained_ms=0.12, throttled={"power limit": 0.914})
    line = cells(report.checks(record(replace(race(), results={OURS: power})))[2])
    assert line[6:] == ["0.120", "0.0613", "1305 to 1980", "power limit 91 %"]


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({}, "no"),
        ({"power limit": 0.001}, "no"),
        ({"power limit": 1.0, "thermal limit (software)": 0.5}, "power limit 100 %, thermal limit (software) 50 %"),
    ],
)
def test_throttling_in_words(shares: dict[str, float], words: str) -> None:
    assert report.throttled(shares) == words


def test_the_conditions_are_on_the_page() -> None:
    page = report.page(record(race(ours=0.1)), "plot.svg")
    assert "INVENTED GPU, driver 0.0, torch 0; 2000-01-01:\n\n    python invented.py" in page


def test_the_plot_has_a_panel_for_each_network_and_batch_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs the extra bench")
    kept = record(*(race(name, batch, ours=1.0, eager=3.0) for name in NETWORKS for batch in NETWORKS[name].goals))
    for name in ("first.svg", "second.svg"):
        report.plot(kept, tmp_path / name)
    drawn = (tmp_path / "first.svg").read_text()
    assert drawn == (tmp_path / "second.svg").read_text()
    for name in NETWORKS:
        for batch in NETWORKS[name].goals:
            assert f"{NETWORKS[name].title}, batch {batch}" in drawn
