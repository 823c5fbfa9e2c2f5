"""Downloads from S3: one version of an object, all of it, and with the right bytes; or nothing."""

import base64
import zlib
from pathlib import Path
from typing import Any

import pytest

from enginewright_runtime.errors import StorageDeniedError, StorageError
from enginewright_runtime.storage.s3 import S3Store
from enginewright_runtime.storage.s3_transfer import SHA256_ENTRY, Limits

TWICE = Limits(connect_timeout=60, read_timeout=60, attempts=2, pause=0.01)
URI = "s3://engines/plans/x.plan"


def serving(answer: Any, content: bytes, **headers: str) -> Any:
    def script(method: str, _path: str, asked: dict[str, str]) -> Any:
        body, status = content, 200
        if "range" in asked:
            first, last = asked["range"].removeprefix("bytes=").split("-")
            body, status = content[int(first) : int(last) + 1], 206
        return answer(status=status, body=body, headers={"ETag": '"e"', **headers})

    return script


def test_bytes_that_do_not_have_the_digest_kept_beside_them_are_refused(
    scripted: Any, answer: Any, tmp_path: Path
) -> None:
    server = scripted(serving(answer, b"damaged", **{f"x-amz-meta-{SHA256_ENTRY}": "0" * 64}))
    with pytest.raises(StorageError, match=f"damaged: they should have the sha256 {'0' * 64}"):
        S3Store(server.options, limits=TWICE).download(URI, tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [1 << 20, 4])
def test_bytes_that_do_not_have_the_stores_checksum_are_refused(
    scripted: Any, answer: Any, tmp_path: Path, part: int
) -> None:
    checksum = base64.b64encode(zlib.crc32(b"right").to_bytes(4, "big")).decode()
    server = scripted(serving(answer, b"damaged", **{"x-amz-checksum-crc32": checksum}))
    with pytest.raises(StorageError, match=r"damaged|do not have the store's checksum"):
        S3Store(server.options, limits=Limits(part=part, attempts=1)).download(URI, tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_a_checksum_of_parts_checksums_is_not_taken_for_one_of_the_whole(
    scripted: Any, answer: Any, tmp_path: Path
) -> None:
    headers = {"x-amz-checksum-crc32": "AAAAAA==-3", "x-amz-checksum-type": "COMPOSITE"}
    server = scripted(serving(answer, b"content", **headers))
    S3Store(server.options, limits=TWICE).download(URI, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"content"


def test_a_download_is_of_one_version_of_the_object(scripted: Any, answer: Any, tmp_path: Path) -> None:
    server = scripted(serving(answer, b"0123456789"))
    S3Store(server.options, limits=Limits(part=4)).download(URI, tmp_path / "fetched")
    gets = [headers for method, _, headers in server.asked if method == "GET"]
    assert (tmp_path / "fetched").read_bytes() == b"0123456789"
    assert sorted(headers["range"] for headers in gets) == ["bytes=0-3", "bytes=4-7", "bytes=8-9"]
    assert {headers["if-match"] for headers in gets} == {'"e"'}


def test_an_object_that_is_replaced_while_it_is_fetched_is_worth_another_try(
    scripted: Any, answer: Any, tmp_path: Path
) -> None:
    def script(method: str, *_: Any) -> Any:
        replaced = answer.error(412, "PreconditionFailed")
        return replaced if method == "GET" else answer(status=200, body=b"content", headers={"ETag": '"e"'})

    with pytest.raises(StorageError, match="replaced meanwhile; try again") as caught:
        S3Store(scripted(script).options, limits=TWICE).download(URI, tmp_path / "fetched")
    assert not isinstance(caught.value, StorageDeniedError)


def test_a_connection_that_breaks_in_the_middle_is_made_again(scripted: Any, answer: Any, tmp_path: Path) -> None:
    bodies = iter([b"cont", b"content"])

    def script(method: str, *_: Any) -> Any:
        body = next(bodies) if method == "GET" else b"content"
        return answer(status=200, body=body, length=7, headers={"ETag": '"e"'})

    S3Store(scripted(script).options, limits=TWICE).download(URI, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"content"


def test_a_connection_that_always_breaks_is_told(scripted: Any, answer: Any, tmp_path: Path) -> None:
    def script(method: str, *_: Any) -> Any:
        return answer(status=200, body=b"cont" if method == "GET" else b"content", length=7, headers={"ETag": '"e"'})

    with pytest.raises(StorageError, match=r"s3://engines/plans/x.plan"):
        S3Store(scripted(script).options, limits=TWICE).download(URI, tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_ignores_ranges_is_found_out(scripted: Any, answer: Any, tmp_path: Path) -> None:
    server = scripted(lambda *_: answer(status=200, body=b"0123456789", headers={"ETag": '"e"'}))
    limits = Limits(part=4, attempts=1)
    with pytest.raises(StorageError, match=r"more bytes of s3://engines/plans/x.plan than the [24] that"):
        S3Store(server.options, limits=limits).download(URI, tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []
