"""Damages models at random and demands that reading one ends in a network or in one clear sentence.

    python tests/fuzz/fuzzer.py --mutations 100000 --seed 1 --keep findings/ [FORMAT ...]

Never another exception, a crash, a hang, memory beyond a bound, or a file opened outside of the model's folder. Worker
processes do it, under limits; one that dies is a finding, and its next takes over behind the mutation that killed it.
A mutation is named by its format, the seed and its number, and is made again from these: --only 1234 runs it alone.
"""

import argparse
import json
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutations
from seeds import Seed, seeds

from enginewright_builder.importers import table
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_runtime.errors import EnginewrightError
from enginewright_runtime.plan.recipe import ModelFormat

PROGRAM = Path(__file__)  # what runs as a worker
SECONDS = 10  # of CPU for one mutation
PATIENCE = 120  # seconds by the clock, for what waits instead of computing
MEGABYTES = 1024  # of address space that a worker may take beyond what it begins with
CODE = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]), "/proc", "/sys", "/dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What must not be. `number` makes the mutation again."""

    kind: str
    seed: int
    number: int
    model: str
    what: str


def mutated(kind: ModelFormat, seed: int, number: int) -> tuple[Seed, dict[str, bytes]]:
    """The sound model that mutation number `number` is made from, and its files."""
    dice = random.Random(f"{kind} {seed} {number}")
    sound = dice.choice(seeds(kind))
    files = dict(sound.files)
    name = dice.choice(sorted(files))
    if name in sound.forms and dice.random() < 0.65:
        files[name] = sound.forms[name].write(mutations.changed(sound.message(name), dice))
    if files[name] == sound.files[name] or dice.random() < 0.1:
        files[name] = mutations.damaged(files[name], dice)
    return sound, files


def read(sound: Seed, folder: Path) -> str:
    """Import what lies in `folder` and compute ahead what depends on constants: "valid" or "refused"; what else is
    raised is a finding."""
    companion = folder / sound.companion if sound.companion else None
    try:
        network = table.read(sound.kind, folder / sound.model, companion=companion, outputs=sound.outputs)
        FoldConstants().apply(network)
        for value in network.graph.initializers.values():
            network.constant(value)
    except EnginewrightError as error:
        if "\n" in error.message or not error.message.endswith("."):
            raise AssertionError(f"not one sentence: {error.message[:300]!r}") from error
        return "refused"
    return "valid"


def work(kind: ModelFormat, seed: int, numbers: Sequence[int], base: Path) -> Iterator[dict[str, Any]]:
    """Run these mutations here. Yields what is begun, and what came of it."""
    folder = base / "model"
    folder.mkdir(exist_ok=True)
    (base / "secret").write_bytes(bytes(256))
    watched = _watch(folder)
    _limit()
    for number in numbers:
        yield {"begun": number}
        sound, files = mutated(kind, seed, number)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        watched.clear()
        _time(SECONDS, PATIENCE)
        try:
            came = read(sound, folder)
        except (Exception, RecursionError, MemoryError) as error:  # whatever it is, it is what is looked for
            came = f"{type(error).__name__}: {error}"[:300]
        _time(0, 0)
        if watched:
            came = f"opened {watched[0]}"
        yield {"number": number, "model": sound.name, "came": came, "megabytes": _resident()}


def _watch(folder: Path) -> list[str]:
    """Paths that are opened from here on and are neither the model's nor code."""
    opened: list[str] = []
    allowed = (*CODE, str(folder.resolve()))

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = str(Path(arguments[0].decode(errors="replace") if isinstance(arguments[0], bytes) else arguments[0]))
            if not str(Path(path).absolute().resolve()).startswith(allowed):
                opened.append(path)

    sys.addaudithook(listen)
    return opened


def _time(seconds: int, patience: int) -> None:
    """From here on a hang ends the process, by SIGPROF or SIGALRM; zeros: no longer."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(patience)


def _limit() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def run(kind: ModelFormat, seed: int, numbers: range, keep: Path | None = None) -> tuple[Counter[str], list[Finding]]:
    """Run mutations in a worker, and in another behind each that kills one."""
    counts, findings = Counter[str](), list[Finding]()
    start = numbers.start
    while start < numbers.stop:
        begun = start - 1
        with tempfile.TemporaryDirectory() as base:
            words = [str(kind), str(seed), str(start), str(numbers.stop), base]
            command = [sys.executable, str(PROGRAM), "--worker", *words]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as worker:
                assert worker.stdout is not None
                for line in worker.stdout:
                    told = json.loads(line)
                    begun = told.get("begun", begun)
                    if "came" in told:
                        _count(told, kind, seed, counts, findings)
        if worker.returncode == 0:
            break
        if begun < start:
            raise RuntimeError(f"a worker ended with {worker.returncode} before its first mutation")
        findings.append(
            Finding(kind=kind, seed=seed, number=begun, model="", what=f"the process ended with {worker.returncode}")
        )
        start = begun + 1
    for finding in findings if keep else ():
        _keep(finding, keep)  # type: ignore[arg-type]  # the line above
    return counts, findings


def _count(told: Mapping[str, Any], kind: str, seed: int, counts: Counter[str], findings: list[Finding]) -> None:
    if told["came"] in ("valid", "refused"):
        counts[told["came"]] += 1
    else:
        findings.append(Finding(kind=kind, seed=seed, number=told["number"], model=told["model"], what=told["came"]))
    counts["megabytes"] = max(counts["megabytes"], told["megabytes"])


def _keep(finding: Finding, folder: Path) -> None:
    place = folder / f"{finding.kind}-{finding.seed}-{finding.number}"
    place.mkdir(parents=True, exist_ok=True)
    _, files = mutated(ModelFormat(finding.kind), finding.seed, finding.number)
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "finding.txt").write_text(f"{finding.model}: {finding.what}\n", encoding="utf-8")


def main() -> int:
    """Parse the command line, fuzz, print one line a format and one a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(ModelFormat)}; default: all")
    parser.add_argument("--mutations", type=int, default=100_000, help="in all, the same number for each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this number alone, here, and let what it raises through")
    parser.add_argument("--keep", type=Path, help="a folder for the files of findings")
    told = parser.parse_args()
    kinds = [ModelFormat(name) for name in told.formats or ModelFormat]
    if told.only is not None:
        sound, files = mutated(kinds[0], told.seed, told.only)
        _limit()
        _time(SECONDS, PATIENCE)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            print(sound.name, read(sound, Path(folder)))
        return 0
    each, found = told.mutations // len(kinds), 0
    for kind in kinds:
        started = time.monotonic()
        step = -(-each // told.workers)
        parts = [range(at, min(at + step, each)) for at in range(0, each, step)]
        with ThreadPoolExecutor(told.workers) as pool:
            results = list(pool.map(lambda part, kind=kind: run(kind, told.seed, part, told.keep), parts))
        counts = sum((counts for counts, _ in results), Counter[str]())
        findings = [finding for _, some in results for finding in some]
        found += len(findings)
        most = max(counts["megabytes"] for counts, _ in results)
        print(
            f"{kind}: {each} mutations, {counts['refused']} refused, {counts['valid']} still valid, {len(findings)} "
            f"findings, at most {most} MB, {time.monotonic() - started:.0f} s, Python {platform.python_version()}",
            flush=True,
        )
        for finding in findings:
            print(f"  --only {finding.number} {kind}: {finding.model}: {finding.what}", flush=True)
    return 1 if found else 0


def worker(words: Sequence[str]) -> None:
    """What `run` starts: mutations here, a line of JSON for each."""
    kind, seed, start, stop, base = words
    for line in work(ModelFormat(kind), int(seed), range(int(start), int(stop)), Path(base)):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    else:
        sys.exit(main())
