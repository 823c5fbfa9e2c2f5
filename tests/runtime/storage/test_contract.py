"""What every object store must do: each test runs on a folder and on moto's S3."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError


def a_file(tmp_path: Path, content: bytes, name: str = "source") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_what_was_uploaded_is_downloaded(place: Any, tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert place.store.upload(a_file(tmp_path, content), f"{place.prefix}a/b.plan") is True
    fetched = place.store.download(f"{place.prefix}a/b.plan", tmp_path / "new" / "fetched")
    assert (tmp_path / "new" / "fetched").read_bytes() == content
    assert fetched == place.store.head(f"{place.prefix}a/b.plan")
    assert (fetched.uri, fetched.bytes) == (f"{place.prefix}a/b.plan", size)


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_is_waited_for_where_what_is_downloaded_shall_last(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    place.store.upload(a_file(tmp_path, b"first"), f"{place.prefix}x")
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    place.store.download(f"{place.prefix}x", tmp_path / "fetched", durable=durable)
    assert (len(waited), (tmp_path / "fetched").read_bytes()) == (int(durable), b"first")


def test_the_first_writer_wins(place: Any, tmp_path: Path) -> None:
    assert place.store.upload(a_file(tmp_path, b"first"), f"{place.prefix}x") is True
    assert place.store.upload(a_file(tmp_path, b"second"), f"{place.prefix}x") is False
    place.store.download(f"{place.prefix}x", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"first"


def test_overwriting_replaces_the_object_and_changes_its_version(place: Any, tmp_path: Path) -> None:
    place.store.upload(a_file(tmp_path, b"first"), f"{place.prefix}x")
    before = place.store.head(f"{place.prefix}x").version
    assert place.store.upload(a_file(tmp_path, b"second"), f"{place.prefix}x", overwrite=True) is True
    place.store.download(f"{place.prefix}x", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"second"
    assert place.store.head(f"{place.prefix}x").version != before


def test_storing_the_same_bytes_again_keeps_the_version(place: Any, tmp_path: Path) -> None:
    place.store.upload(a_file(tmp_path, b"same"), f"{place.prefix}x")
    before = place.store.head(f"{place.prefix}x")
    place.store.upload(a_file(tmp_path, b"same"), f"{place.prefix}x", overwrite=True)
    assert place.store.head(f"{place.prefix}x") == before


def test_listing_gives_what_is_under_the_prefix_and_nothing_else(place: Any, tmp_path: Path) -> None:
    for name in ("plans/a/1", "plans/a/2", "plans/ab/3", "plans/a.txt"):
        place.store.upload(a_file(tmp_path, name.encode()), f"{place.prefix}{name}")
    found = list(place.store.list(f"{place.prefix}plans/a/"))
    assert sorted(entry.uri for entry in found) == [f"{place.prefix}plans/a/1", f"{place.prefix}plans/a/2"]
    assert sorted(found, key=str) == sorted((place.store.head(entry.uri) for entry in found), key=str)


def test_listing_where_nothing_is_gives_nothing(place: Any) -> None:
    assert list(place.store.list(f"{place.prefix}nothing/here/")) == []


def test_a_prefix_without_its_slash_is_refused(place: Any) -> None:
    with pytest.raises(UsageError, match="must end in '/'"):
        list(place.store.list(f"{place.prefix}plans"))


def test_a_deleted_object_is_gone(place: Any, tmp_path: Path) -> None:
    place.store.upload(a_file(tmp_path, b"x"), f"{place.prefix}x")
    place.store.delete(f"{place.prefix}x")
    with pytest.raises(ObjectMissingError):
        place.store.head(f"{place.prefix}x")


def test_deleting_what_is_not_there_is_no_error(place: Any) -> None:
    place.store.delete(f"{place.prefix}never/was")


def test_a_missing_object_is_named(place: Any, tmp_path: Path) -> None:
    for ask in (place.store.head, lambda uri: place.store.download(uri, tmp_path / "fetched")):
        with pytest.raises(ObjectMissingError, match=f"{place.prefix}no/such.onnx"):
            ask(f"{place.prefix}no/such.onnx")
    assert list(tmp_path.glob("**/*.part")) == []
    assert not (tmp_path / "fetched").exists()


def test_a_missing_file_to_upload_is_named(place: Any, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match=r"no-such\.plan"):
        place.store.upload(tmp_path / "no-such.plan", f"{place.prefix}x")


def test_a_folder_cannot_be_uploaded(place: Any, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match="is a folder"):
        place.store.upload(tmp_path, f"{place.prefix}x")


@pytest.mark.parametrize("name", ["ä é/日本語", "with space+plus", "a~b'(c)!*,;=:@&$", "%41%2B", "…"])
def test_odd_names_come_back_as_they_were(place: Any, tmp_path: Path, name: str) -> None:
    uri = (tmp_path / "store" / name).as_uri() if place.prefix.startswith("file") else f"{place.prefix}{name}"
    place.store.upload(a_file(tmp_path, name.encode()), uri)
    (listed,) = place.store.list(place.prefix)
    place.store.download(listed.uri, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == name.encode()
    assert place.store.head(uri).bytes == listed.bytes


@pytest.mark.parametrize("name", ["../x", "a/../../x", "./x", "a/.."])
def test_a_uri_never_climbs(place: Any, tmp_path: Path, name: str) -> None:
    for act in (place.store.head, place.store.delete, lambda uri: place.store.upload(a_file(tmp_path, b""), uri)):
        with pytest.raises(UsageError, match=r"'\.\.'"):
            act(f"{place.prefix}{name}")


def test_two_threads_that_store_the_same_key_at_once(place: Any, tmp_path: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(6)]
    files = [a_file(tmp_path, content, f"source{number}") for number, content in enumerate(contents)]
    barrier, won = threading.Barrier(len(files)), [False] * len(files)

    def store(number: int) -> None:
        barrier.wait()
        won[number] = place.store.upload(files[number], f"{place.prefix}same")

    threads = [threading.Thread(target=store, args=(number,)) for number in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.store.download(f"{place.prefix}same", tmp_path / "fetched")
    assert won.count(True) == 1
    assert (tmp_path / "fetched").read_bytes() == contents[won.index(True)]


STORE_AT_ONCE = """
import json, sys
from pathlib import Path
from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage.open import open_store
prefix, options, path = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
store = open_store(prefix, StoreOptions(**options))
print("ready", flush=True)
sys.stdin.readline()
print(store.upload(path, f"{prefix}same"))
"""


def test_two_processes_that_store_the_same_key_at_once(place: Any, tmp_path: Path) -> None:
    files = [a_file(tmp_path, bytes([number]) * 300_000, f"source{number}") for number in range(2)]
    arguments = [sys.executable, "-c", STORE_AT_ONCE, place.prefix, json.dumps(asdict(place.options))]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen([*arguments, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for path in files
        ]
        assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n"] * 2
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        won = [writer.communicate(timeout=120)[0].strip() for writer in writers]
    place.store.download(f"{place.prefix}same", tmp_path / "fetched")
    assert sorted(won) == ["False", "True"]
    assert (tmp_path / "fetched").read_bytes() == files[won.index("True")].read_bytes()


def test_a_download_replaces_the_old_file_whole(place: Any, tmp_path: Path) -> None:
    place.store.upload(a_file(tmp_path, b"new"), f"{place.prefix}x")
    (tmp_path / "fetched").write_bytes(b"old and longer")
    place.store.download(f"{place.prefix}x", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"new"


def test_a_download_that_fills_the_disk_says_what_it_needs(place: Any, tmp_path: Path, file_size_limit: Any) -> None:
    place.store.upload(a_file(tmp_path, bytes(2_000_000)), f"{place.prefix}x")
    (tmp_path / "fetched").write_bytes(b"old")
    with (
        file_size_limit(1_000_000),
        pytest.raises(StorageError, match=r"is full .*2000000 bytes are needed"),
    ):
        place.store.download(f"{place.prefix}x", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"old"
    assert list(tmp_path.glob("**/*.part")) == []


def test_a_download_into_a_folder_that_is_refused(place: Any, tmp_path: Path) -> None:
    place.store.upload(a_file(tmp_path, b"x"), f"{place.prefix}x")
    with pytest.raises(StorageDeniedError, match=r"/proc/version\.d.*(refused|exist)"):
        place.store.download(f"{place.prefix}x", Path("/proc/version.d/fetched"))
