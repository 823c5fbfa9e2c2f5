"""Mutates plan files at random and demands that reading one ends in a valid plan or in PlanError.

    python tests/runtime/plan/fuzz_plan_file.py --mutations 100000 --seed 1

Never another exception, nor a hang, nor memory beyond a bound. Four in nine mutations repair the digests and lengths
afterwards, so that they come past them to the checks behind. Prints one line of result; exit 1 at the first finding,
with the file kept.
"""

import argparse
import copy
import json
import platform
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import container, records
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.header import HEADER, MAGIC
from enginewright_runtime.plan.manifest import Manifest, Schedule, Segment
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import Target, TargetKind, TargetRequirement

SECONDS = 10  # for one mutation
MEGABYTES = 64  # that the whole run may grow by

NUMBERS = (-1, 0, 1, 255, 256, 257, 1 << 31, (1 << 32) - 1, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64, 10**30)
VALUES = (*NUMBERS, None, True, [], {}, "", "x" * 5000, "\ud800", "../..", 0.5, float("inf"), float("nan"), [[[[]]]])
TOKENS = (b"{", b"}", b"[" * 200, b'"', b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"9" * 5000, b",", b":", b"\xff")


def a_plan(path: Path) -> bytes:
    """A small plan's bytes."""
    blobs = {"segments/0.onnx": b"network", "weights/a": bytes(range(256)), "weights/b": b"", "weights/c": b"c" * 300}
    recipe = Recipe(model="sha256:x", target=TargetRequirement(kind=TargetKind.CPU), builder="0.1.0")
    segment = Segment(executor="host", inputs=("x",), outputs=("y",), blob="segments/0.onnx", options={"threads": 1})
    manifest = Manifest(
        recipe=recipe,
        digest=recipe.digest,
        target=Target(kind=TargetKind.CPU, architecture="x86_64"),
        builder="0.1.0",
        schedules=(Schedule(inputs=(), outputs=(), segments=(segment,)),),
        blobs=container.layout(blobs),
        report={"layers": [1, 2, {"a": None}]},
    )
    container.write(path, manifest, blobs)
    return path.read_bytes()


def parts(content: bytes) -> tuple[bytes, bytes]:
    """The manifest's text and the blob area."""
    length = HEADER.unpack_from(content)[3]
    return content[HEADER.size : HEADER.size + length], content[container._aligned(HEADER.size + length) :]


def assembled(text: bytes, area: bytes) -> bytes:
    """A plan of these, with lengths and digest that fit."""
    base = container._aligned(HEADER.size + len(text))
    packed = HEADER.pack(MAGIC, 1, 0, len(text), base + len(area), sha256(text).digest())
    return (packed + text).ljust(base, b"\0") + area


def flip(content: bytes, dice: random.Random) -> bytes:
    """One to four bits."""
    changed = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(content: bytes, dice: random.Random) -> bytes:
    """The beginning alone."""
    return content[: dice.randrange(len(content))]


def grow(content: bytes, dice: random.Random) -> bytes:
    """More bytes somewhere."""
    at = dice.randrange(len(content) + 1)
    return content[:at] + dice.randbytes(dice.randint(1, 600)) + content[at:]


def move(content: bytes, dice: random.Random) -> bytes:
    """One run of bytes over another."""
    size, here, there = dice.randint(1, 300), dice.randrange(len(content)), dice.randrange(len(content))
    return content[:there] + content[here : here + size] + content[there + size :]


def header_field(content: bytes, dice: random.Random) -> bytes:
    """A field of the header."""
    fields = list(HEADER.unpack_from(content))
    fields[dice.choice((1, 2))] = dice.choice((0, 1, 2, (1 << 32) - 1))
    fields[dice.choice((3, 4))] = dice.choice([number for number in NUMBERS if 0 <= number < 1 << 64])
    return HEADER.pack(*fields) + content[HEADER.size :]


def manifest_text(content: bytes, dice: random.Random) -> bytes:
    """The manifest's text, digests repaired."""
    text, area = parts(content)
    at = dice.randrange(len(text))
    return assembled(text[:at] + dice.choice(TOKENS) + text[at + dice.randint(0, 4) :], area)


def manifest_value(content: bytes, dice: random.Random) -> bytes:
    """A value, a key or a repetition in the manifest, digests repaired."""
    text, area = parts(content)
    document = json.loads(text)
    for _ in range(dice.randint(1, 2)):
        place = document
        while True:
            key = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], dict | list) or not place[key] or dice.random() < 0.2:
                break
            place = place[key]
        change = dice.randrange(4)
        if change == 0:
            del place[key]
        elif change == 1 and isinstance(place, dict):
            place[dice.choice(("surprise", "", "\x00", "é\n", key.upper()))] = place.pop(key)
        else:
            place[key] = copy.deepcopy(dice.choice(VALUES))
        if not document:
            break
    return assembled(json.dumps(document).encode(), area)


def blob_area(content: bytes, dice: random.Random) -> bytes:
    """The blob area, lengths repaired."""
    text, area = parts(content)
    return assembled(text, dice.choice((flip, cut, grow, move))(area, dice))


def signature_list(content: bytes, dice: random.Random) -> bytes:
    """Signatures behind the last blob, lengths repaired."""
    text = dice.choice((b'{"signatures":[{"key":"k","value":"v"}]}', *TOKENS))
    text = dice.choice((bytes, partial(flip, dice=dice), partial(cut, dice=dice), partial(grow, dice=dice)))(text)
    fields = list(HEADER.unpack_from(content))
    fields[2], fields[4] = len(text), len(content) + len(text)
    return HEADER.pack(*fields) + content[HEADER.size :] + text


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    cut,
    grow,
    move,
    header_field,
    manifest_text,
    manifest_value,
    manifest_value,
    blob_area,
    signature_list,
)


def outcome_of(path: Path) -> str:
    """Either "valid" or "refused"; what else is raised is a finding."""
    try:
        with PlanFile(path) as plan:
            plan.verify()
            records.canonical(plan.manifest)
    except PlanError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise AssertionError(f"not one sentence: {error}") from error
        return "refused"
    return "valid"


def resident_megabytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def fuzz(mutations: int, seed: int, folder: Path) -> Counter[str]:
    """Run; raise what was found, the file left in `folder`."""
    dice, path = random.Random(seed), folder / "mutated.plan"
    original, counts = a_plan(path), Counter[str]()
    before = resident_megabytes()
    for _ in range(mutations):
        mutation = dice.choice(MUTATIONS)
        path.write_bytes(mutation(original, dice))
        signal.alarm(SECONDS)  # a hang ends the process, by SIGALRM
        counts[outcome_of(path)] += 1
        counts[mutation.__name__] += 1
    signal.alarm(0)
    grown = resident_megabytes() - before
    if grown > MEGABYTES:
        raise AssertionError(f"memory grew by {grown} MB, more than {MEGABYTES}")
    counts["megabytes"] = grown
    return counts


def main() -> int:
    """Parse the command line, fuzz, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder, started = Path(tempfile.mkdtemp(prefix="fuzz-plan-")), time.monotonic()
    try:
        counts = fuzz(arguments.mutations, arguments.seed, folder)
    except Exception:
        sys.stderr.write(f"seed {arguments.seed}: found with the file {folder / 'mutated.plan'}\n")
        raise
    seconds = time.monotonic() - started
    sys.stdout.write(
        f"seed {arguments.seed}: {arguments.mutations} mutations, {counts['refused']} refused, {counts['valid']} still "
        f"valid, 0 findings, {counts['megabytes']} MB grown, {seconds:.0f} s, Python {platform.python_version()}\n"
    )
    (folder / "mutated.plan").unlink()
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
