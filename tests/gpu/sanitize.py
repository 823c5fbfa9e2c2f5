"""Each kernel of ours under compute-sanitizer, on small odd shapes: memory errors, races in shared memory, barriers.

    python tests/gpu/sanitize.py [--tool TOOL] [--kernels WORDS] [--jobs N] [--seconds N] [--logs FOLDER]

A process for each kernel and tool, side by side; a table as Markdown, and the first words of what was found. Device
memory is allocated exactly, without a pool, so that memcheck sees the first byte beyond a tensor, and kernels are
compiled with their lines. initcheck is left out: the session poisons what nobody wrote, which counts as written.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TOOLS = ("memcheck", "racecheck", "synccheck")
MANY_BARRIERS = ("hopper small triple", "hopper wide triple")  # more in a launch than synccheck tracks by itself
SILENT = "nothing"  # the tool did not come to its end
_CONVOLUTION = "test_hopper_latency_conv.py::test_every_convolution_is_right"
_ABREAST = "test_hopper_latency_conv.py::test_tiles_abreast_are_right"
_RING = "test_hopper_latency_conv.py::test_weights_that_take_the_place_of_others_are_right"
_MATRICES = "test_hopper_gemm.py::test_candidates_are_right"
_ATTENTION = "test_attention.py::test_every_candidate_is_right"
_TAILS = "test_tails.py::test_every_tactic_gives_what_the_layer_says"
_GENERATED = "test_generated.py::test_every_schedule_computes_what_the_expression_means"
SELECTIONS: dict[str, tuple[str, ...]] = {  # tests by kernel; a test of matrices runs gemm, split gemm and halo
    "attention": (f"{_ATTENTION}[7 rows, 299 keys]", f"{_ATTENTION}[causal, more rows than keys]"),
    "attention, bfloat16": (f"{_ATTENTION}[bfloat16]",),
    "hopper attention": (
        f"{_ATTENTION}[numbers of 40, values of 24]",
        f"{_ATTENTION}[197 rows, 256 keys, bfloat16]",
    ),
    "hopper heads": (
        "test_hopper_heads.py::test_the_result_is_right[100 rows, values first]",
        "test_hopper_heads.py::test_the_result_is_right[50 rows, bfloat16]",
    ),
    "hopper gemm, split gemm, halo": (f"{_MATRICES}[uneven pads, gated]", f"{_MATRICES}[slices of wider buffers]"),
    "hopper gemm, split gemm, halo: pooled": (
        f"{_MATRICES}[pooled, odd]",
        f"{_MATRICES}[pooled by twos of sixteen pictures]",
    ),
    "hopper gemm, split gemm: a pair": (f"{_MATRICES}[a pair]",),
    "hopper gemm, pooled": (f"{_MATRICES}[pooled, odd]", f"{_MATRICES}[pooled, dilated, uneven pads, gated]"),
    "hopper gemm, split gemm: products": (f"{_MATRICES}[few rows, gelu]", f"{_MATRICES}[columns not k-major]"),
    "hopper latency convolution": (f"{_CONVOLUTION}[24 channels]", f"{_CONVOLUTION}[slices of wider buffers]"),
    "hopper latency convolution: a pair": (f"{_CONVOLUTION}[pair of five images]",),
    "hopper latency convolution: pooled": (
        f"{_CONVOLUTION}[pooled, odd]",
        "test_hopper_latency_conv.py::test_every_cluster_pools[3]",
    ),
    "hopper latency convolution: clusters": (f"{_CONVOLUTION}[residual and clusters]",),
    "hopper latency convolution that walks": (
        "test_hopper_latency_conv.py::test_a_block_that_walks_over_tiles_is_right[3]",
    ),
    "hopper latency convolution: tiles abreast": (
        f"{_ABREAST}[2-residual]",
        f"{_ABREAST}[2-pooled]",
        f"{_ABREAST}[3-stride 2]",
    ),
    "hopper latency mean": (
        "test_latency_mean.py::test_the_mean_is_right[no activation, odd sizes]",
        "test_latency_mean.py::test_the_mean_is_right[bfloat16]",
    ),
    "hopper latency convolution: a ring of weights": (
        f"{_RING}[1-3-residual]",
        f"{_RING}[2-2-two warpgroups a tile]",
        f"{_RING}[3-3-stride 2]",
    ),
    "hopper couple": (
        "test_hopper_couple.py::test_both_results_are_right[odd sizes]",
        "test_hopper_couple.py::test_both_results_are_right[pair of odd sizes]",
    ),
    "hopper triple": (
        "test_hopper_triple.py::test_both_results_are_right[odd sizes]",
        "test_hopper_triple.py::test_both_results_are_right[pair of odd sizes]",
    ),
    "hopper small triple": (
        "test_hopper_small_triple.py::test_both_results_are_right[odd sizes]",
        "test_hopper_small_triple.py::test_both_results_are_right[pair of odd sizes]",
    ),
    "hopper wide triple": (
        "test_hopper_wide_triple.py::test_both_results_are_right[odd sizes-2]",
        "test_hopper_wide_triple.py::test_both_results_are_right[few channels in-1]",
    ),
    "row product": ("test_hopper_latency_conv.py::test_every_row_product_is_right",),
    "stem, walking stem": (
        "test_hopper_latency_conv.py::test_every_stem_is_right[odd]",
        "test_hopper_latency_conv.py::test_halves_of_a_stems_result_make_it_whole[odd]",
    ),
    "stem in bands": (
        "test_hopper_latency_conv.py::test_every_stem_is_right[even]",
        "test_hopper_latency_conv.py::test_every_stem_is_right[even, kernel of three]",
    ),
    "tails": (
        f"{_TAILS}[3x3, 2 pictures-turned-fp16]",
        f"{_TAILS}[3x3 of many channels-residual, then erf-fp16]",
        f"{_TAILS}[3 rows-exp-fp16]",
    ),
    "generated": (_GENERATED,),
}
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK|SYNCCHECK) SUMMARY: (.*)")
_FINDING = re.compile(
    r"^========= (?:Invalid|Misaligned|Error: |Warning: |Internal |Barrier|Program hit|Uninit|Out-of)"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of a tool over a kernel: what it said at the end, how the tests went, and the first findings, shortened."""

    tool: str
    kernel: str
    said: str
    tests: str
    findings: tuple[str, ...]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tools; 1 where one found something, or a test failed, or there was no time, or a tool said nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", action="append", choices=TOOLS, help="one or more; all of them where none is named")
    parser.add_argument("--kernels", default="", help="only those with these words in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=600, help="for all of them together")
    parser.add_argument("--logs", type=Path, default=Path(tempfile.mkdtemp()), help="where the tools' own words go")
    options = parser.parse_args(arguments)
    ends = time.monotonic() + options.seconds
    options.logs.mkdir(parents=True, exist_ok=True)
    chosen = [kernel for kernel in SELECTIONS if options.kernels in kernel]
    if not chosen:
        parser.error(f"no kernel has {options.kernels!r} in its name; there are: {', '.join(SELECTIONS)}")
    jobs = [(tool, kernel) for tool in options.tool or TOOLS for kernel in chosen]
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda job: sanitized(*job, options.logs, ends), jobs))
    sys.stdout.write(table(outcomes))
    return int(any(each.findings or each.tests != "passed" or each.said == SILENT for each in outcomes))


def sanitized(tool: str, kernel: str, logs: Path, ends: float) -> Outcome:
    """One tool over the tests of one kernel."""
    log = logs / f"{tool}.{re.sub('[^a-z0-9]+', '-', kernel)}.txt"
    command = ["compute-sanitizer", "--tool", tool, "--log-file", str(log), "--print-limit", "20"]
    command += ["--report-api-errors", "no"] if tool == "memcheck" else []
    command += ["--num-cuda-barriers", str(1 << 16)] if tool == "synccheck" and kernel in MANY_BARRIERS else []
    command += [sys.executable, __file__.replace("sanitize.py", "sanitized.py"), *SELECTIONS[kernel]]
    started = time.monotonic()
    tests = ended(command, log.with_suffix(".tests"), max(ends - started, 0.1))
    text = log.read_text(errors="replace") if log.exists() else ""
    said = _SUMMARY.findall(text)
    return Outcome(
        tool=tool,
        kernel=kernel,
        said=said[-1] if said else SILENT,
        tests=tests,
        findings=findings(text),
        seconds=time.monotonic() - started,
    )


def ended(command: Sequence[str], words: Path, seconds: float) -> str:
    """How a command ended, with all that it started: "passed", "failed (1)", "cut off"."""
    calm = {**os.environ, "OMP_NUM_THREADS": "2"}  # many of these run side by side
    with (
        words.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=calm, start_new_session=True) as process,
    ):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "cut off"
    return "passed" if code == 0 else f"failed ({code})"


def findings(log: str) -> tuple[str, ...]:
    """Each different one once: its first line and where it is."""
    lines = log.splitlines()
    found = [
        " ".join(each.removeprefix("=========").strip() for each in lines[at : at + 2])
        for at, line in enumerate(lines)
        if _FINDING.match(line)
    ]
    return tuple(dict.fromkeys(found))


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each kernel and tool; then what was found."""
    lines = ["| kernel | tool | it says | its tests | s |", "|---|---|---|---|---|"]
    lines += [f"| {o.kernel} | {o.tool} | {o.said} | {o.tests} | {o.seconds:.0f} |" for o in outcomes]
    for each in outcomes:
        lines += [f"* {each.tool}, {each.kernel}: {finding}" for finding in each.findings[:4]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
