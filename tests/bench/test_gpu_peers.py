"""What a run of the GPU benchmark does with its words, without a card."""

import sys
from pathlib import Path

import gpu_peers
import pytest
from invented import race, record
from peers import record as records
from peers.record import NETWORKS, Record


def told(monkeypatch: pytest.MonkeyPatch, *words: str) -> gpu_peers.argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["gpu_peers.py", *words])
    return gpu_peers.arguments()


def test_a_first_run_takes_every_network_at_the_batches_that_have_a_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = gpu_peers.wanted(Record(), told(monkeypatch))
    assert [(name, batch) for name, batch, _ in wanted] == [(n, b) for n in NETWORKS for b in NETWORKS[n].goals]
    assert len(wanted) == 12


def test_a_second_run_goes_on_where_the_first_was_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    words = told(monkeypatch, "--networks", "bert", "--peers", "eager,graph")
    assert gpu_peers.wanted(record(race("bert", 1, ours=1.0, eager=2.0, graph=2.0)), words) == [
        ("bert", 8, ["eager", "graph"])
    ]


def test_an_unknown_network_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        told(monkeypatch, "--networks", "resnet51")
    assert "there is no network resnet51: there are resnet50, vgg19" in capsys.readouterr().err


def test_a_report_of_nothing_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    words = told(monkeypatch, "--record", str(tmp_path / "none.json"), "--report", str(page))
    with pytest.raises(SystemExit, match="holds no race: measure first"):
        gpu_peers.write(words)
    assert not page.exists()


def test_a_report_writes_the_page_and_its_plot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs the extra bench")
    records.write(tmp_path / "kept.json", record(race(ours=0.1, eager=1.0)))
    page = tmp_path / "page.md"
    gpu_peers.write(told(monkeypatch, "--record", str(tmp_path / "kept.json"), "--report", str(page)))
    assert "![Milliseconds](page.svg)" in page.read_text()
    assert (tmp_path / "page.svg").read_text().startswith("<?xml")
