"""Progress goes to its console alone, as lines or as bars."""

import io

import pytest
from rich.console import Console

from enginewright_builder import bars, progress


def test_lines_tell_phases_and_steps_with_their_count() -> None:
    text = io.StringIO()
    told = progress.Lines(text)
    with told.phase("Trying tactics", total=2) as step:
        step("first [1, 2]")
        step("second")
    with told.phase("Proving") as step:
        step("golden inputs")
    told.note("batch 1 is built")
    assert text.getvalue().splitlines() == [
        "Trying tactics …",
        "  1/2 first [1, 2]",
        "  2/2 second",
        "Proving …",
        "  golden inputs",
        "note: batch 1 is built",
    ]


def test_bars_end_full() -> None:
    text = io.StringIO()
    told = bars.Live(Console(file=text, force_terminal=True, width=100))
    with told.phase("Trying tactics", total=2) as step:
        step("first")
    assert "2/2" in text.getvalue()


def test_a_pipe_gets_lines_and_nothing_is_written_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    told = progress.on_standard_error()
    assert isinstance(told, progress.Lines)
    with told.phase("Reading"):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert "Reading" in err


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    silent = progress.Silent()
    with silent.phase("x") as step:
        step("y")
    silent.note("z")
    assert capsys.readouterr() == ("", "")
