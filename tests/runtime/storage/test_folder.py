"""What only a folder can do wrong: links, pipes, disks, names."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError
from enginewright_runtime.storage import landing, uris
from enginewright_runtime.storage.folder import FolderStore


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


def test_the_version_is_the_sha256_of_the_content(source: Path) -> None:
    head = FolderStore().head(source.as_uri())
    assert head.version == "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def test_an_object_can_be_read_by_other_users(source: Path, tmp_path: Path) -> None:
    FolderStore().upload(source, (tmp_path / "stored").as_uri())
    assert (tmp_path / "stored").stat().st_mode & 0o777 == 0o644


def test_any_bytes_can_be_a_name(source: Path, tmp_path: Path) -> None:
    uri = uris.from_path(Path(os.fsdecode(os.fsencode(tmp_path) + b"/store/\xff\xfe %")))
    FolderStore().upload(source, uri)
    assert [entry.uri for entry in FolderStore().list(f"{(tmp_path / 'store').as_uri()}/")] == [uri]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ObjectMissingError, match="not a regular file"):
        FolderStore().head((tmp_path / "pipe").as_uri())


def test_a_folder_is_no_object(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match="is a folder"):
        FolderStore().head(tmp_path.as_uri())
    with pytest.raises(ObjectMissingError, match="is a folder"):
        FolderStore().upload(source, tmp_path.as_uri())


def test_listing_does_not_follow_links_out_of_the_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "out").symlink_to("/etc", target_is_directory=True)
    (tmp_path / "store" / "dangling").symlink_to("/nonexistent")
    assert list(FolderStore().list(f"{(tmp_path / 'store').as_uri()}/")) == []


def test_a_part_that_a_killed_process_left_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / f"{landing.PREFIX}abc{landing.SUFFIX}").write_bytes(b"half")
    assert list(FolderStore().list(f"{tmp_path.as_uri()}/")) == []


def test_a_disk_that_is_full_says_what_is_needed(source: Path, tmp_path: Path, file_size_limit: Any) -> None:
    source.write_bytes(bytes(100_000))
    with file_size_limit(1_000), pytest.raises(StorageError, match=r"full .*100000 bytes are needed and \d+ are free"):
        FolderStore().upload(source, (tmp_path / "store" / "x").as_uri())
    assert list((tmp_path / "store").iterdir()) == []


def test_too_little_space_is_seen_before_a_byte_is_written(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 43)  # a hole of 8 TiB, which takes no space
    with pytest.raises(StorageError, match=f"{1 << 43} bytes are needed"):
        FolderStore().upload(huge, (tmp_path / "x").as_uri())


def test_a_file_system_without_hard_links_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StorageDeniedError, match="no hard links"):
        FolderStore().upload(source, (tmp_path / "store" / "x").as_uri())
    assert list((tmp_path / "store").iterdir()) == []


def test_a_file_that_grows_while_it_is_read_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.pread

    def grow_and_read(descriptor: int, size: int, offset: int) -> bytes:
        with source.open("ab") as file:
            file.write(b"more")
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", grow_and_read)
    with pytest.raises(StorageError, match="changed while it was read: it had 7 bytes"):
        FolderStore().download(source.as_uri(), tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_name_that_is_too_long_is_a_mistake_of_the_caller(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        FolderStore().upload(source, f"{tmp_path.as_uri()}/{'x' * 300}")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, StorageDeniedError),
        (errno.EROFS, StorageDeniedError),
        (errno.EDQUOT, StorageError),
        (errno.EIO, StorageError),
        (errno.ENOENT, ObjectMissingError),
        (errno.EISDIR, UsageError),
    ],
)
def test_each_error_of_the_system_has_its_class_and_sentence(number: int, kind: type[Exception]) -> None:
    sentence = r"^It cannot be kept: /tmp.*[;,].*\.$"
    with (
        pytest.raises(kind, match=sentence) as caught,
        landing.os_errors(Path("/tmp/x"), needed=1, what="It cannot be kept"),
    ):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
