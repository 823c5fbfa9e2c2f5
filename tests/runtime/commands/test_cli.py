"""The frame of the command line: loads only what was asked for, and turns errors into sentences and exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from enginewright_runtime import cli

COMMANDS = '''
import typer
from typing import Annotated
from enginewright_runtime.errors import GateError

def good(name: str = "you", as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Say hello. And more."""
    typer.echo(f"hello {name}")

def gate(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Fail a gate."""
    raise GateError("The gate did not open.") from ValueError("why")

def defect(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Have a defect."""
    raise RuntimeError("oops")

def keyboard() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt

def lacking(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Import a package of an extra, late."""
    raise ModuleNotFoundError("No module named 'kopf'", name="kopf")

def strange() -> None:
    """Import a package that is of no extra."""
    raise ModuleNotFoundError("No module named 'xyz'", name="xyz")

def full() -> None:
    """Run out of memory."""
    raise MemoryError

def chatter() -> None:
    """Write more than a pipe holds."""
    for _ in range(100_000):
        typer.echo("line")
'''
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command line with made-up commands; some of them cannot be loaded."""
    (tmp_path / "made_up_commands.py").write_text(COMMANDS)
    (tmp_path / "made_up_extra.py").write_text("import onnx_not_there\nimport onnxscript\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ("good", "gate", "defect", "keyboard", "lacking", "strange", "full", "absent")
    entries = {name: EntryPoint(name, f"made_up_commands:{name}", cli.GROUP) for name in names}
    entries["gone"] = EntryPoint("gone", "made_up_nowhere.commands:gone", cli.GROUP)
    entries["extra"] = EntryPoint("extra", "made_up_extra:extra", cli.GROUP)
    monkeypatch.setitem(cli.EXTRAS, "onnx_not_there", "builder")
    monkeypatch.setattr(cli, "declared", lambda: entries)
    monkeypatch.delitem(sys.modules, "made_up_commands", raising=False)
    return lambda *words: cli.main(words)


def test_a_command_runs_and_gives_0(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("good", "--name", "me") == 0
    assert capsys.readouterr().out == "hello me\n"


def test_only_the_module_that_was_asked_for_is_loaded(run: Run) -> None:
    run("extra")
    assert "made_up_commands" not in sys.modules


def test_help_lists_every_command_with_a_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "Say hello." in listed
    assert "And more" not in listed
    assert "(not available)" in listed


def test_the_version_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("enginewright ")


def test_an_error_is_its_sentence_and_its_outcomes_code(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gate") == 12
    assert capsys.readouterr() == ("", "enginewright: The gate did not open.\n")


def test_verbose_adds_the_traceback_with_its_cause(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-v", "gate") == 12
    error = capsys.readouterr().err
    assert "ValueError: why" in error
    assert error.endswith("enginewright: The gate did not open.\n")


def test_with_json_an_error_is_one_object_on_standard_output(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gate", "--json") == 12
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": {"outcome": "GATE_FAILED", "message": "The gate did not open."}}
    assert said.err == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("god",), "There is no command 'god': did you mean good?"),
        (("zzz",), "There is no command 'zzz': there are good, gate"),
        (("absent",), "The command 'absent' should be made_up_commands:absent, which is not there"),
        (("gone", "--any", "x"), "The command 'gone' should be made_up_nowhere.commands:gone, which is not there"),
        (
            ("extra",),
            "`enginewright extra` needs the package 'onnx_not_there', which is not installed",
        ),
        (("lacking",), "'kopf', which is not installed: run pip install 'enginewright[operator]' and try again."),
        (("good", "--nmae", "x"), "--nmae"),
    ],
)
def test_what_cannot_be_run_says_what_to_do(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert run(*words) == 2
    assert sentence in capsys.readouterr().err
    assert run(*words, "--json") == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["outcome"] == "USAGE"
    assert sentence in told["message"]


def test_a_defect_shows_where_it_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="oops"):
        run("defect", "--json")
    assert json.loads(capsys.readouterr().out)["error"]["outcome"] == "INTERNAL"
    with pytest.raises(ModuleNotFoundError):
        run("strange")


def test_the_keyboard_gives_130_and_no_memory_31(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keyboard") == 130
    assert run("full") == 31
    assert "not enough memory" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(run: Run, tmp_path: Path) -> None:
    script = f"""
import sys
from importlib.metadata import EntryPoint
sys.path.insert(0, {str(tmp_path)!r})
from enginewright_runtime import cli
cli.declared = lambda: {{"chatter": EntryPoint("chatter", "made_up_commands:chatter", cli.GROUP)}}
sys.exit(cli.main(["chatter"]))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1
    assert error == b""


def test_every_declared_command_is_found() -> None:
    assert set(cli.declared()) >= {"build", "compare", "inspect", "infer", "bench", "serve", "explain", "up"}


def test_commands_complete_in_the_shell(run: Run) -> None:
    command = typer.main.get_command(cli.application)
    with command.make_context("enginewright", [], resilient_parsing=True) as context:
        assert [item.value for item in command.shell_complete(context, "go")] == ["good", "gone"]
