"""URIs to buckets, keys and paths, and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_runtime.errors import UsageError
from enginewright_runtime.storage import uris

names = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 0x2F} & {*name} and name not in (b".", b".."))


@given(st.lists(names, min_size=1, max_size=4))
def test_every_path_survives_being_a_uri(parts: list[bytes]) -> None:
    path = Path("/", *(part.decode("utf-8", "surrogateescape") for part in parts))
    assert uris.to_path(uris.from_path(path)) == path


@given(st.text(max_size=60))
def test_a_file_uri_is_a_path_below_the_root_or_refused(text: str) -> None:
    try:
        path = uris.to_path(f"file:///{text}")
    except UsageError:
        return
    assert path.is_absolute()
    assert ".." not in path.parts


@given(st.text(max_size=60))
def test_an_s3_uri_is_a_bucket_and_a_key_or_refused(text: str) -> None:
    try:
        bucket, key = uris.to_bucket_and_key(f"s3://bucket/{text}")
    except UsageError:
        return
    assert (bucket, key) == ("bucket", text)


@pytest.mark.parametrize(
    "uri",
    [
        "file://relative",
        "file://host/path",
        "file:///a/../b",
        "file:///a/%2e%2E/b",
        "file:///a%2fb",
        "file:///a%00b",
        "file:///a?b",
        "file:///a#b",
        "s3://bucket/x",
    ],
)
def test_what_is_no_file_is_refused_by_name(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        uris.to_path(uri)
    assert repr(uri) in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://b", "s3://bu cket/key", "s3://user:pass@bucket/key"])
def test_what_is_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="s3://bucket/key"):
        uris.to_bucket_and_key(uri)


@pytest.mark.parametrize("key", ["a" * 1025, "é" * 513, "\ud800"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="at most 1024 bytes"):
        uris.to_bucket_and_key(f"s3://bucket/{key}")


def test_localhost_is_this_machine() -> None:
    assert uris.to_path("file://localhost/a%20b") == Path("/a b")
