"""The plan file: what was written is read, and what was damaged is refused with one sentence."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import container, records
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.header import HEADER
from enginewright_runtime.plan.manifest import Manifest


def read_everything(path: Path) -> dict[str, bytes]:
    """Open, verify and copy all: raises PlanError and nothing else."""
    with PlanFile(path) as plan:
        plan.verify()
        return {name: bytes(plan.blob(name)) for name in plan.manifest.blobs}


def test_what_was_written_is_read(plan: Path, manifest: Manifest, blobs: dict[str, bytes]) -> None:
    assert read_everything(plan) == blobs
    with PlanFile(plan) as opened:
        assert opened.manifest == manifest


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=20), st.binary(max_size=600), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_blobs_come_back(tmp_path: Path, changed: Any, blobs: dict[str, bytes]) -> None:
    path = tmp_path / "any.plan"
    container.write(path, changed(blobs=container.layout(blobs), schedules=(), goldens=()), blobs)
    assert read_everything(path) == blobs


def test_the_same_plan_is_the_same_bytes(plan: Path, manifest: Manifest, blobs: dict[str, bytes]) -> None:
    other = plan.with_name("other.plan")
    container.write(other, manifest, blobs)
    assert other.read_bytes() == plan.read_bytes()


def test_every_blob_lies_at_an_aligned_offset_of_the_file(plan: Path) -> None:
    with PlanFile(plan) as opened:
        content = plan.read_bytes()
        for name, entry in opened.manifest.blobs.items():
            start = opened._base + entry.offset
            assert start % container.ALIGNMENT == 0
            assert content[start : start + entry.bytes] == bytes(opened.blob(name))


def test_a_blob_is_a_read_only_view_of_the_file_and_not_a_copy(tmp_path: Path, changed: Any) -> None:
    blobs = {"large": bytes(50_000_000)}
    path = tmp_path / "large.plan"
    container.write(path, changed(blobs=container.layout(blobs), schedules=(), goldens=()), blobs)
    tracemalloc.start()
    with PlanFile(path) as plan:
        view = plan.blob("large")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert view.nbytes == 50_000_000
        assert view.readonly
        view.release()
    assert peak < 2_000_000


def test_a_view_outlives_the_file_that_it_was_taken_from(plan: Path, blobs: dict[str, bytes]) -> None:
    opened = PlanFile(plan)
    view = opened.blob("weights/w")
    opened.close()
    plan.unlink()
    assert bytes(view) == blobs["weights/w"]


def test_a_blob_that_is_not_there_is_named(plan: Path) -> None:
    with PlanFile(plan) as opened, pytest.raises(PlanError, match="has no blob 'weights/v': build it again"):
        opened.blob("weights/v")


def test_a_manifest_of_other_blobs_is_not_written(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(PlanError, match="blob table is not that of its blobs"):
        container.write(tmp_path / "x.plan", manifest, {"other": b""})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_no_reader_takes_is_not_written(
    tmp_path: Path, manifest: Manifest, blobs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MANIFEST_LIMIT", 100)
    with pytest.raises(PlanError, match="no reader takes more than 100"):
        container.write(tmp_path / "x.plan", manifest, blobs)


def test_a_write_that_fails_leaves_the_old_plan(
    plan: Path, manifest: Manifest, blobs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plan.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        container.write(plan, manifest, blobs)
    assert plan.read_bytes() == before
    assert list(plan.parent.iterdir()) == [plan]


def test_a_plan_that_need_not_last_does_not_wait_for_the_disk(
    plan: Path, manifest: Manifest, blobs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    container.write(plan, manifest, blobs, durable=False)
    assert not waited
    read_everything(plan)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_that_is_killed_leaves_the_old_plan_or_the_new(plan: Path, call: str) -> None:
    before = plan.read_bytes()
    program = f"""
import os, signal, sys
from pathlib import Path
from enginewright_runtime.plan import container
from enginewright_runtime.plan.container import PlanFile
path = Path(sys.argv[1])
with PlanFile(path) as plan:
    manifest, table = plan.manifest, plan.manifest.blobs
    order = sorted(table, key=lambda name: (table[name].offset, table[name].bytes))
    blobs = {{name: bytes(plan.blob(name)) for name in order}}
owner = os if {call!r} == "fsync" else Path
setattr(owner, {call!r}, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
container.write(path, manifest, blobs)
"""
    assert subprocess.run([sys.executable, "-c", program, str(plan)], check=False).returncode == -9
    assert plan.read_bytes() == before
    read_everything(plan)


def test_a_plan_that_is_cut_anywhere_is_refused(plan: Path) -> None:
    for length in reversed(range(plan.stat().st_size)):
        os.truncate(plan, length)
        with pytest.raises(PlanError, match=r"small\.plan"):
            read_everything(plan)


def test_a_plan_with_a_byte_too_many_is_refused(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes() + b"\0")
    with pytest.raises(PlanError, match="should have"):
        read_everything(plan)


def test_a_flipped_bit_anywhere_is_noticed(plan: Path) -> None:
    with plan.open("r+b", buffering=0) as file:
        for position, byte in enumerate(plan.read_bytes()):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
            with pytest.raises(PlanError):
                read_everything(plan)
            os.pwrite(file.fileno(), bytes([byte]), position)


FIELDS = ("magic", "version", "signatures length", "manifest length", "file length", "manifest sha256")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("magic", b"PK\x03\x04....", "is not a plan: it starts with"),
        ("version", 2, "format version 2, and this runtime reads 1"),
        ("signatures length", 1, "signature list of the plan .* is not valid JSON"),
        ("signatures length", (1 << 32) - 1, "signatures claim 4294967295 bytes"),
        ("manifest length", 0, "sha256"),
        ("manifest length", 1 << 63, "more than there can be"),
        ("file length", 0, "it should have 0 bytes"),
        ("file length", (1 << 64) - 1, "it should have 18446744073709551615 bytes"),
        ("manifest sha256", bytes(32), "does not have the sha256 that the header gives"),
    ],
)
def test_each_field_of_the_header_is_checked(plan: Path, field: str, value: Any, words: str) -> None:
    content = plan.read_bytes()
    header = list(HEADER.unpack_from(content))
    header[FIELDS.index(field)] = value
    plan.write_bytes(HEADER.pack(*header) + content[HEADER.size :])
    with pytest.raises(PlanError, match=words):
        PlanFile(plan)


def hostile(manifest: Manifest, path: str, value: Any) -> bytes:
    """The manifest's JSON with the value at a dotted path replaced."""
    document = records.to_json(manifest)
    *parents, last = path.split("|")
    place = document
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("blobs|weights/w|offset", -256, "does not follow the blob before it"),
        ("blobs|weights/w|offset", 0, "does not follow"),
        ("blobs|weights/w|offset", 1 << 62, "does not follow"),
        ("blobs|weights/w|offset", 1 << 63, "does not fit in 64 bits"),
        ("blobs|weights/w|offset", 10**400, "does not fit in 64 bits"),
        ("blobs|weights/w|offset", 256.0, "must be an integer, got 256.0"),
        ("blobs|weights/w|offset", True, "must be an integer, got true"),
        ("blobs|weights/w|bytes", -1, "does not follow|claims -1 bytes"),
        ("blobs|weights/w|bytes", 1 << 40, "claims 1099511627776 bytes"),
        ("blobs|golden/x|bytes", 15, "its blobs end at|blob 'golden/x'"),
        ("blobs|weights/w|sha256", "0" * 64, "blob 'weights/w' does not have the sha256"),
        ("blobs|weights/w|sha256", None, "must be text, got null"),
        ("blobs|../../etc/passwd", {"offset": 0, "bytes": 0, "sha256": ""}, "sha256"),
        ("blobs", [], "must be an object, got a list"),
        ("blobs", {}, "names the blob"),
        ("schedules|0|segments|0|blob", "no/such", "names the blob 'no/such', which it does not have"),
        ("goldens|0|schedule", 1, "a golden is of schedule 1, and there are 1, counted from 0"),
        ("goldens|0|schedule", -1, "a golden is of schedule -1"),
        ("goldens|0|absolute", 10**17, "must be a number"),
        ("goldens|0|inputs|image|shape", [1, "2"], r"shape\[1\] must be an integer, got \"2\""),
        ("format", 2, "of format 2"),
        ("surprise", 1, "unknown field 'surprise'"),
        ("target|kind", "tpu", "must be one of cpu, cuda"),
        ("recipe|surprise\n" + "x" * 1000, 1, "unknown field"),
    ],
)
def test_a_hostile_manifest_is_refused(
    manifest: Manifest, with_manifest: Any, path: str, value: Any, words: str
) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        read_everything(with_manifest(hostile(manifest, path, value)))
    assert len(str(caught.value)) < 800
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        ("{}".encode("utf-16"), "not valid JSON"),
        (b"[]", "must be an object, got a list"),
        (b"{}", "lacks the field"),
        (b'{"a":1,"a":2}', "the key 'a' occurs twice"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b'{"a":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"a":1e999}', "1e999 is too large for a number"),
        (b'{"a":' + b"9" * 5000 + b"}", "does not fit in 64 bits"),
        (b'{"a":"\\ud800"}', "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 500 + b"]" * 500, "nested deeper than 100 levels"),
    ],
)
def test_a_manifest_that_is_not_strict_json_is_refused(with_manifest: Any, text: bytes, words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        PlanFile(with_manifest(text))
    assert len(str(caught.value)) < 800


def test_a_repeated_key_among_very_many_is_found_at_once(with_manifest: Any) -> None:
    keys = ",".join(f'"{number}":0' for number in range(100_000))
    with pytest.raises(PlanError, match="the key '99999' occurs twice"):
        PlanFile(with_manifest(f'{{{keys},"99999":0}}'.encode()))


def test_memory_does_not_follow_what_a_header_claims(plan: Path) -> None:
    content = plan.read_bytes()
    magic, version, signatures, _, _, digest = HEADER.unpack_from(content)
    for claimed in (1 << 26, 1 << 40, (1 << 64) - 1):
        plan.write_bytes(
            HEADER.pack(magic, version, signatures, claimed, len(content), digest) + content[HEADER.size :]
        )
        tracemalloc.start()
        with pytest.raises(PlanError, match="more than there can be"):
            PlanFile(plan)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


def test_bytes_between_blobs_are_refused(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    with PlanFile(plan) as opened:
        hole = opened._base + opened.manifest.blobs["segments/0.onnx"].bytes
    content[hole] = 1
    plan.write_bytes(content)
    with pytest.raises(PlanError, match="that belong to nothing"):
        PlanFile(plan)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.plan"
    {"missing": lambda: None, "folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "empty": path.touch}[kind]()
    with pytest.raises(PlanError, match=r"x\.plan"):
        PlanFile(path)


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        PlanFile(Path("a\0b"))
