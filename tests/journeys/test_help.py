"""`--help` and `--version`: quick, and of use to whoever reads nothing else."""

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from enginewright_runtime import cli

COMMANDS = (
    "bench", "build", "compare", "explain", "export", "infer", "inspect", "orphans", "serve", "sign", "up", "verify",
)  # fmt: skip
COMMAND_LINE = (sys.executable, "-m", "enginewright_runtime.cli")
QUICK = 1.0  # seconds of a processor: half of that where nothing else runs, and tests run beside other tests


@pytest.mark.parametrize("words", [("--version",), ("serve", "--help"), ("build", "--help")], ids=" ".join)
def test_what_a_person_waits_for_is_quick(words: tuple[str, ...]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*COMMAND_LINE, *words], capture_output=True, timeout=250, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < QUICK


@pytest.mark.parametrize("module", ["enginewright_builder.commands", "enginewright_runtime.commands.serve"])
def test_a_command_is_light_until_it_runs(module: str) -> None:
    heavy = "('onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'aiohttp', 'pydantic')"
    program = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.fixture
def help_of(enginewright: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The help of a command, in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: str(enginewright(*words, "--help").out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_nothing_in_it_is_cut(help_of: Callable[..., str], command: str) -> None:
    told = help_of(command)
    assert max(map(len, told.splitlines())) <= 80
    assert "…" not in told


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_examples_whose_options_exist(help_of: Callable[..., str], command: str) -> None:
    told, _, examples = help_of(command).partition("Examples:")
    lines = examples.replace("\\\n", " ").strip().splitlines()
    ours = [words for words in map(shlex.split, lines) if words[0] == "enginewright"]
    assert len(ours) >= 2
    for words in ours:
        assert words[1] == command
        used = [word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z-]+(=.*)?", word)]
        assert [option for option in used if not re.search(rf"(^|\W){option}(\W|$)", told)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    group = cli.typer.main.get_command(cli.application)
    with group.make_context("enginewright", [], resilient_parsing=True) as context:
        parameters = group.get_command(context, command).params
    unexplained = [each.name for each in parameters if not each.help and not getattr(each, "hidden", False)]
    assert unexplained == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_each_shell(shell: str) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    words = ["--show-completion", shell]
    ran = subprocess.run(
        [*COMMAND_LINE, *words], capture_output=True, text=True, env=environment, timeout=250, check=True
    )
    assert "_ENGINEWRIGHT_COMPLETE" in ran.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "good.onnx", "-o", "other.plan", "--effort", "fast"), "Trying tactics"),
        (("compare", "good.onnx", "good.plan"), "Running both"),
        (("export", "good.onnx", "-o", "good.txt", "--passes", "cpu"), "Applying the passes"),
        (("bench", "good.plan", "--seconds", "0.01"), "Timing 1 of 1 schedules"),
    ],
    ids=lambda each: each[0],
)
@pytest.mark.usefixtures("here")
def test_a_command_that_may_take_long_says_what_it_does_beside_its_json(
    enginewright: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    ran = enginewright(*words, "--json")
    assert said in ran.err
    assert json.loads(ran.out)
