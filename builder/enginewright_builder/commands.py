"""`enginewright build` and `enginewright compare`: words in, one result out; the work is build.build and comparison."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import numpy as np
import typer

from enginewright_builder import build as builder
from enginewright_builder import command_line, comparison, page, progress, summary
from enginewright_builder.gates import GatesFailedError
from enginewright_runtime.engine.values import Array
from enginewright_runtime.errors import EnginewrightError, InputError, StorageError, UsageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import REQUEST_VARIABLE, TERMINATION_VARIABLE, BuildRequest, BuildResult


class InterruptedBuildError(EnginewrightError):
    """The build was told to end (SIGTERM, SIGINT): the same request may succeed later."""

    outcome = Outcome.INTERRUPTED


def build(
    model: Annotated[Path | None, typer.Argument(help="The model: an ONNX file.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--plan", "-o", help="Where the plan goes.", show_default=False)
    ] = None,
    target: Annotated[str, typer.Option(help="What it is built for: cpu.")] = "cpu",
    shape: Annotated[
        list[str] | None,
        typer.Option(help="An input's exact shape, image=1x3x224x224; again for more shapes.", show_default=False),
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes to build, 1,8, where only the batch is free.")] = "",
    precision: Annotated[str, typer.Option(help="Precisions to allow beside fp32: fp16,int8.")] = "",
    calibration: Annotated[
        Path | None, typer.Option(help="Samples as .npz, one array an input.", show_default=False)
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", help="What to compute, by name (any layer's).", show_default=False)
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="accuracy=test.npz,max-drop=0.005 | latency=7ms,batch=1 | memory=2Gi; the plan must pass all.",
            show_default=False,
        ),
    ] = None,
    effort: Annotated[str, typer.Option(help="How long to look: fast, balanced or thorough.")] = "balanced",
    report: Annotated[
        Path | None, typer.Option(help="Write what was found as .html or .json.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    request_from_environment: Annotated[
        bool, typer.Option(help=f"Read the whole request from {REQUEST_VARIABLE}, as a build Job does.")
    ] = False,
) -> None:
    """Build a plan from a model, prove it, and store it.

    The plan is checked against the untouched model, its candidates are timed on this machine, and every gate must pass
    before anything is written.
    """
    with _termination_message() as told, _ended_by_signals():
        if request_from_environment:
            request = _request_from_environment()
        else:
            if model is None or output is None:
                raise UsageError("A build needs a model and a place for the plan: enginewright build MODEL -o X.plan.")
            _require_report_format(report)
            request = command_line.request(
                model=model,
                output=output,
                target=target,
                shapes=shape or [],
                batches=batch,
                precisions=precision,
                calibration=calibration,
                outputs=outputs or [],
                gate_words=gate or [],
                effort=effort,
            )
        with tempfile.TemporaryDirectory(prefix="enginewright-") as workdir:
            result = builder.build(
                request,
                progress=progress.on_standard_error(),
                workdir=Path(workdir),
                overwrite=not request_from_environment,
            )
        told.append(result)
    found: dict[str, Any] = {}
    if output is not None and not request_from_environment:
        with PlanFile(output) as plan:
            found = dict(plan.manifest.report)
        if report is not None:
            _write_report(report, found, result, str(model))
    if as_json:
        typer.echo(json.dumps(records.to_json(result), ensure_ascii=False))
    else:
        summary.show(result, found, plan=output)


def compare(
    model: Annotated[Path, typer.Argument(help="The model that the plan was built from.")],
    plan: Annotated[Path, typer.Argument(help="The plan.")],
    samples: Annotated[int, typer.Option(min=1, help="Random inputs to try, for each shape.")] = 8,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="Your own input, name=file.npy.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Compare a plan with the untouched model: worst errors, cosine and top-1 agreement of every output.

    Ends badly (BAD_PLAN) when an output is further off than the model's arithmetic explains.
    """
    found = comparison.compare(model, plan, samples=samples, given=_inputs(inputs or []))
    if as_json and not any(difference.reason for difference in found.differences):
        typer.echo(json.dumps(records.to_json(found), ensure_ascii=False))
    elif not as_json:
        summary.show_comparison(found)
    found.require_within(plan)


@contextmanager
def _termination_message() -> Iterator[list[BuildResult]]:
    """However the build ends, its result is written where Kubernetes reads it; errors go on to the command line."""
    path = os.environ.get(TERMINATION_VARIABLE, "")
    told: list[BuildResult] = []
    try:
        yield told
    except GatesFailedError as error:
        told.append(error.result)
        raise
    except EnginewrightError as error:
        told.append(BuildResult.of(error.outcome, error.message))
        raise
    except MemoryError:
        told.append(BuildResult.of(Outcome.OUT_OF_MEMORY, "The build ran out of memory: give its Job more."))
        raise
    except BaseException as error:
        told.append(BuildResult.of(Outcome.INTERNAL, f"A defect of Enginewright: {type(error).__name__}: {error}"))
        raise
    finally:
        if path and told:
            Path(path).write_text(told[-1].to_termination_message(), encoding="utf-8")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM (a pod that is moved away) ends the build with an outcome that is tried again."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise InterruptedBuildError(f"The build was ended by {signal.Signals(number).name}: start it again.")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _request_from_environment() -> BuildRequest:
    text = os.environ.get(REQUEST_VARIABLE)
    if text is None:
        raise UsageError(f"--request-from-environment needs the variable {REQUEST_VARIABLE}, which is not set.")
    try:
        return BuildRequest.from_json(text)
    except EnginewrightError as error:
        raise UsageError(f"{REQUEST_VARIABLE} holds no build request: {error.message}") from error


def _require_report_format(report: Path | None) -> None:
    if report is not None and report.suffix not in (".html", ".json"):
        raise UsageError(f"--report must end in .html or .json, got {str(report)!r}.")


def _write_report(path: Path, found: dict[str, Any], result: BuildResult, model: str) -> None:
    told = {"model": model, **records.to_json(result), "report": found}
    text = page.render(told) if path.suffix == ".html" else json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"The plan is built, but the report {path} cannot be written: {error.strerror}.") from error


def _inputs(words: list[str]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for word in words:
        name, separator, file = word.partition("=")
        if not separator or not name or not file:
            raise UsageError(f"--input must look like name=file.npy, got {word!r}.")
        try:
            # Mapped: a header that claims more than the file holds is refused before anything is allocated.
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"The input file {file} cannot be read as .npy: {error}.") from error
        if not isinstance(mapped, np.ndarray):
            raise InputError(f"The input file {file} is an archive: give one .npy file an input.")
        arrays[name] = np.array(mapped)
    return arrays
