"""`enginewright`: finds its sub-commands through entry points and loads only the one that was asked for.

So no package imports another for its command, `serve` never pays for the builder, and a command that cannot be loaded
does not break the others. This module also is the one place where an error becomes a sentence and an exit code.
"""

import difflib
import importlib
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import enginewright_runtime
from enginewright_runtime.errors import EnginewrightError, MissingExtraError, UsageError
from enginewright_runtime.plan.outcome import Outcome

GROUP = "enginewright.commands"
EXAMPLES = "\n\nExamples:\n"  # what begins the examples at the end of a command's docstring
INTERRUPTED_BY_KEYBOARD = 130  # what shells give for SIGINT
BROKEN_PIPE = 1

# Which extra brings a package, by the name it is imported under.
EXTRAS: Mapping[str, str] = {
    "onnxruntime": "runtime",
    "ml_dtypes": "runtime",
    "aiohttp": "runtime",
    "prometheus_client": "runtime",
    "structlog": "runtime",
    "pydantic_settings": "runtime",
    "cryptography": "runtime",
    "boto3": "storage",
    "botocore": "storage",
    "onnx": "builder",
    "onnx_ir": "builder",
    "onnxscript": "builder",
    "tenacity": "builder",
    "kopf": "operator",
    "kubernetes": "operator",
}


def declared() -> dict[str, metadata.EntryPoint]:
    """The sub-commands that installed packages declare, by name, in alphabetical order. Loads none of them."""
    return {entry.name: entry for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)}


def load(entry: metadata.EntryPoint) -> Callable[..., Any]:
    """The function of a sub-command. Raises MissingExtraError or UsageError where it cannot be had."""
    try:
        function = getattr(importlib.import_module(entry.module), entry.attr, None)
    except ModuleNotFoundError as error:
        if entry.module == error.name or entry.module.startswith(f"{error.name}."):
            raise _not_there(entry) from error
        raise _explained(error, purpose=f"`enginewright {entry.name}`") from error
    if function is None:
        raise _not_there(entry)
    return function  # type: ignore[no-any-return]


class CommandGroup(TyperGroup):
    """A group whose commands are the entry points; a command's module is imported when its help or itself is wanted."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every declared name, whether or not it can be loaded."""
        return list(declared())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; one that cannot be loaded says so when it is run, and in the list."""
        entry = declared().get(cmd_name)
        if entry is None:
            return None
        try:
            return _command(cmd_name, load(entry))
        except UsageError as error:
            return _unavailable(cmd_name, error)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As the base class, with the nearest names in the refusal of an unknown command."""
        name, known = args[0], self.list_commands(ctx)
        if not ctx.resilient_parsing and not name.startswith("-") and name not in known:
            near = difflib.get_close_matches(name, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."
            raise UsageError(f"There is no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)


application = typer.Typer(
    name="enginewright",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"enginewright {enginewright_runtime.__version__}")
        raise typer.Exit


@application.callback()
def enginewright(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show where in the code an error came from (before the command).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turns a trained model into an optimized inference engine for each GPU type you own, proves it, and serves it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see plan.outcome.Outcome). Never prints a traceback unasked, but for
    a defect of ours."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = words[: words.index("--")] if "--" in words else words
    as_json = "--json" in own
    verbose = any(word in ("-v", "--verbose") for word in _before_command(own))
    try:
        code = _run(words, as_json=as_json, verbose=verbose)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED_BY_KEYBOARD
    return code


def _run(words: list[str], *, as_json: bool, verbose: bool) -> int:
    command = typer.main.get_command(application)
    try:
        result = command.main(args=words, prog_name="enginewright", standalone_mode=False)
        return result if isinstance(result, int) else Outcome.DONE
    except EnginewrightError as error:
        return _report(error, as_json=as_json, verbose=verbose)
    except typer.TyperException as error:
        return _report_usage(error, as_json=as_json)
    except typer.Abort:
        return INTERRUPTED_BY_KEYBOARD
    except ModuleNotFoundError as error:
        return _report(_explained(error, purpose="This command"), as_json=as_json, verbose=verbose)
    except MemoryError as error:
        _say(Outcome.OUT_OF_MEMORY, f"There is not enough memory: {error or 'the system gave none'}.", as_json=as_json)
        return Outcome.OUT_OF_MEMORY
    except Exception as error:
        # A defect of ours: whoever reads JSON hears of it, and the traceback goes on to standard error.
        if as_json:
            _say(Outcome.INTERNAL, f"Internal error: {type(error).__name__}: {error}", as_json=True)
        raise


def _report(error: EnginewrightError, *, as_json: bool, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    _say(error.outcome, error.message, as_json=as_json)
    return error.outcome


def _report_usage(error: typer.TyperException, *, as_json: bool) -> int:
    if as_json:
        _say(Outcome.USAGE, error.format_message(), as_json=True)
    else:
        show: Callable[[], None] | None = getattr(error, "show", None)
        if show is not None:
            show()
        else:
            _say(Outcome.USAGE, error.format_message(), as_json=False)
    return error.exit_code


def _say(outcome: Outcome, message: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": {"outcome": outcome.name, "message": message}}, ensure_ascii=False))
    else:
        typer.echo(f"enginewright: {message}", err=True)


def _before_command(words: Sequence[str]) -> Sequence[str]:
    end = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    return words[:end]


def _command(name: str, function: Callable[..., Any]) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"]}
    text, examples = _help_and_examples(function)
    single.command(
        name, help=text, short_help=_first_sentence(text), epilog=examples or None, context_settings=settings
    )(function)
    return typer.main.get_command(single)


def _help_and_examples(function: Callable[..., Any]) -> tuple[str, str]:
    """A docstring's paragraphs, each on one line so that the terminal wraps them, and its examples, line by line."""
    text, _, examples = (inspect.getdoc(function) or "").partition(EXAMPLES)
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    # The line break before the title: without it, the title would take away the examples' indentation.
    listed = f"\n{EXAMPLES.strip()}\n{examples}" if examples else ""
    return _as_it_is("\n\n".join(paragraphs)), _as_it_is(listed)


def _as_it_is(text: str) -> str:
    return text.replace("[", r"\[")  # or a bracket would be taken for markup


def _unavailable(name: str, error: UsageError) -> Any:
    def refuse() -> None:
        raise error

    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    anything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    help_text = f"(not available) {error.message}"
    single.command(name, help=help_text, short_help=help_text, context_settings=anything)(refuse)
    return typer.main.get_command(single)


def _first_sentence(text: str | None) -> str:
    joined = " ".join((text or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", joined, maxsplit=1)[0]


def _not_there(entry: metadata.EntryPoint) -> UsageError:
    return UsageError(
        f"The command {entry.name!r} should be {entry.value}, which is not there: install enginewright again."
    )


def _explained(error: ModuleNotFoundError, *, purpose: str) -> EnginewrightError:
    """The missing package in a person's words; the error itself, re-raised, where the package is none of an extra."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        raise error
    return MissingExtraError(package=package, extra=EXTRAS[package], purpose=purpose)


if __name__ == "__main__":
    sys.exit(main())
