"""`enginewright build` and `enginewright compare`: words in, one result out; the work is build.build and comparison.

Light to import, for `enginewright --help` lists these: what needs ONNX is imported when a command runs.
"""

import json
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enginewright_builder import identities, options
from enginewright_builder.gates import GatesFailedError
from enginewright_builder.network import inference
from enginewright_runtime import tracing
from enginewright_runtime.engine import available
from enginewright_runtime.errors import EnginewrightError, InputError, StorageError, UsageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import REQUEST_VARIABLE, TERMINATION_VARIABLE, BuildRequest, BuildResult
from enginewright_runtime.plan.signature import Seal
from enginewright_runtime.plan.target import TargetKind

if TYPE_CHECKING:
    from enginewright_runtime.engine.values import Array


class InterruptedBuildError(EnginewrightError):
    """The build was told to end (SIGTERM, SIGINT): the same request may succeed later."""

    outcome = Outcome.INTERRUPTED


def build(
    model: options.Model = None,
    output: options.Place = None,
    prototxt: options.Prototxt = None,
    target: options.Target = "cpu",
    shape: options.Shapes = None,
    batch: options.Batches = "",
    precision: options.Precisions = "",
    calibration: options.Calibration = None,
    outputs: options.Outputs = None,
    gate: options.GateWords = None,
    effort: options.EffortWord = "balanced",
    budget: options.Budget = "",
    allow_host: options.AllowHost = False,
    plugin: options.Plugins = None,
    sign_key: options.SignKey = None,
    report: options.Report = None,
    as_json: options.Json = False,
    request_from_environment: options.FromEnvironment = False,
) -> None:
    """Build a plan from a model, prove it, and store it.

    The plan is checked against the untouched model, its candidates are timed on this machine, and every gate must pass
    before anything is written. A build Job runs it with --request-from-environment alone, and its request in the
    variable ENGINEWRIGHT_BUILD_REQUEST.

    Examples:
        enginewright build model.onnx -o model.plan
        enginewright build model.onnx -o model.plan --batch 1,8 --effort fast
        enginewright build model.caffemodel --prototxt deploy.prototxt -o model.plan
        enginewright build model.onnx -o model.plan --shape image=1x3x224x224
        enginewright build model.onnx -o model.plan --target cuda --precision fp16 --batch 1,8
        enginewright build model.onnx -o model.plan --gate latency=7ms,batch=1 \\
            --gate accuracy=test.npz,max-drop=0.005 --report model.html
    """
    if _is_for_gpu(target, from_environment=request_from_environment):
        available.wake_gpu()  # all three while the imports run
    inference.begin()
    if model is not None:
        identities.begin(model)
    from enginewright_builder import announced, progress
    from enginewright_builder import build as builder

    shown: progress.Progress = progress.Traced(progress.on_standard_error())
    with _traced(), _termination_message() as told, _ended_by_signals():
        if request_from_environment:
            request = _request_from_environment()
            shown = announced.Announced(shown, lambda line: typer.echo(line, err=True))
        else:
            if model is None or output is None:
                raise UsageError("A build needs a model and a place for the plan: enginewright build MODEL -o X.plan.")
            _require_report_format(report)
            from enginewright_builder import command_line

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
                budget=budget,
                allow_host=allow_host,
                plugins=plugin or [],
                prototxt=prototxt,
            )
        seal = _seal(sign_key)
        with tempfile.TemporaryDirectory(prefix="enginewright-") as workdir:
            result = builder.build(
                request,
                progress=shown,
                workdir=Path(workdir),
                overwrite=not request_from_environment,
                seal=seal,
            )
        told.append(result)
    found = _found(output, report, result, str(model)) if output is not None and not request_from_environment else {}
    if as_json:
        typer.echo(json.dumps(records.to_json(result), ensure_ascii=False))
    else:
        from enginewright_builder import summary

        summary.show(result, found, plan=output)


def compare(
    model: Annotated[Path, typer.Argument(help="The model that the plan was built from.")],
    plan: Annotated[Path, typer.Argument(help="The plan.")],
    prototxt: options.Prototxt = None,
    samples: Annotated[int, typer.Option(min=1, help="Random inputs to try, for each schedule.")] = 8,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=X.npy",
            help="Your own input instead; once for each input.",
            show_default=False,
        ),
    ] = None,
    plugin: options.Plugins = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found as one JSON object on standard output.")
    ] = False,
) -> None:
    """Compare a plan with the untouched model: worst errors, cosine and top-1 agreement of every output.

    Ends with exit code 14 (BAD_PLAN) when an output is further off than the model's arithmetic explains.

    Examples:
        enginewright compare model.onnx model.plan
        enginewright compare model.onnx model.plan --input image=cat.npy
    """
    from enginewright_builder import comparison, progress, summary

    found = comparison.compare(
        model,
        plan,
        samples=samples,
        given=_inputs(inputs or []),
        plugins=plugin or [],
        companion=prototxt,
        progress=progress.on_standard_error(),
    )
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


@contextmanager
def _traced() -> Iterator[None]:
    """The whole build as one span of the trace that its Job is in, where traces are sent anywhere."""
    stop = tracing.configure("enginewright-builder")
    try:
        with tracing.span("build", parent=tracing.inherited()):
            yield
    finally:
        stop()


def _is_for_gpu(target: str, *, from_environment: bool) -> bool:
    """As far as can be told before anything is checked."""
    if not from_environment:
        return target == TargetKind.CUDA
    with suppress(EnginewrightError):
        return _request_from_environment().recipe.target.kind is TargetKind.CUDA
    return False


def _request_from_environment() -> BuildRequest:
    text = os.environ.get(REQUEST_VARIABLE)
    if text is None:
        raise UsageError(f"--request-from-environment needs the variable {REQUEST_VARIABLE}, which is not set.")
    try:
        return BuildRequest.from_json(text)
    except EnginewrightError as error:
        raise UsageError(f"{REQUEST_VARIABLE} holds no build request: {error.message}") from error


def _seal(key: Path | None) -> Seal | None:
    """The key to sign with, read before minutes of tuning rather than after. Raises UsageError."""
    if key is None:
        return None
    from enginewright_runtime.signing import trust

    return trust.seal(key)


def _require_report_format(report: Path | None) -> None:
    if report is not None and report.suffix not in (".html", ".json"):
        raise UsageError(f"--report must end in .html or .json, got {str(report)!r}.")


def _found(plan: Path, report: Path | None, result: BuildResult, model: str) -> dict[str, Any]:
    """The report inside the plan that was just stored, written to `report` too where one was asked for."""
    from enginewright_runtime.plan.container import PlanFile

    with PlanFile(plan) as file:
        found = dict(file.manifest.report)
    if report is not None:
        _write_report(report, found, result, model)
    return found


def _write_report(path: Path, found: dict[str, Any], result: BuildResult, model: str) -> None:
    from enginewright_builder import page

    told = {"model": model, **records.to_json(result), "report": found}
    text = page.render(told) if path.suffix == ".html" else json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"The plan is built, but the report {path} cannot be written: {error.strerror}.") from error


def _inputs(words: Sequence[str]) -> "dict[str, Array]":
    import numpy as np

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
