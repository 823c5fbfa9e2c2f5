"""What only S3 can do wrong: servers that are down, slow, strange, refuse or damage; and parts."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from enginewright_runtime.errors import (
    EnginewrightError,
    ObjectMissingError,
    StorageDeniedError,
    StorageError,
    UsageError,
)
from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage.open import open_store
from enginewright_runtime.storage.s3 import S3Store
from enginewright_runtime.storage.s3_transfer import SHA256_ENTRY, Limits

TWICE = Limits(connect_timeout=60, read_timeout=60, attempts=2, pause=0.01)
PARTS = Limits(single=5 << 20, part=5 << 20, pause=0.01)
URI = "s3://engines/plans/x.plan"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"".join(bytes([number]) * (4 << 20) for number in range(3)))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b"content")
    return path


def unfinished(options: StoreOptions) -> list[Any]:
    client = boto3.client("s3", endpoint_url=options.endpoint, region_name="us-east-1")
    try:
        return list(client.list_multipart_uploads(Bucket="engines").get("Uploads", []))
    finally:
        client.close()


def test_a_large_file_travels_in_parts_both_ways(moto_options: StoreOptions, large: Path, tmp_path: Path) -> None:
    store = S3Store(moto_options, limits=PARTS)
    assert store.upload(large, URI) is True
    assert store.head(URI).version.endswith("-3")
    store.download(URI, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == large.read_bytes()


def test_a_large_file_does_not_replace_another(moto_options: StoreOptions, large: Path, small: Path) -> None:
    store = S3Store(moto_options, limits=PARTS)
    store.upload(small, URI)
    assert store.upload(large, URI) is False
    assert store.head(URI).bytes == 7
    assert store.upload(large, URI, overwrite=True) is True
    assert store.head(URI).bytes == 12 << 20


def test_of_two_writers_in_parts_the_first_to_complete_wins(
    moto_options: StoreOptions, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, barrier, won = S3Store(moto_options, limits=PARTS), threading.Barrier(2), []
    exists = store._exists

    def wait_and_look(bucket: str, key: str) -> bool:
        found = exists(bucket, key)
        barrier.wait()
        return found

    monkeypatch.setattr(S3Store, "_exists", lambda _, bucket, key: wait_and_look(bucket, key))
    threads = [threading.Thread(target=lambda: won.append(store.upload(large, URI))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, True]
    assert unfinished(moto_options) == []


def test_a_failed_upload_in_parts_is_aborted(
    moto_options: StoreOptions, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3Store(moto_options, limits=PARTS)

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store._client, "complete_multipart_upload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.upload(large, URI)
    assert unfinished(moto_options) == []


def test_a_lost_answer_to_our_own_completion_is_a_success(
    moto_options: StoreOptions, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3Store(moto_options, limits=PARTS)
    complete = store._client.complete_multipart_upload

    def twice(**arguments: Any) -> None:
        complete(**arguments)
        gone: Any = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        raise ClientError(gone, "CompleteMultipartUpload")

    monkeypatch.setattr(store._client, "complete_multipart_upload", twice)
    assert store.upload(large, URI) is True


def test_the_digest_of_the_content_is_kept_beside_it(moto_options: StoreOptions, small: Path) -> None:
    S3Store(moto_options).upload(small, URI)
    client = boto3.client("s3", endpoint_url=moto_options.endpoint, region_name="us-east-1")
    metadata = client.head_object(Bucket="engines", Key="plans/x.plan")["Metadata"]
    client.close()
    assert metadata[SHA256_ENTRY] == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def test_more_objects_than_a_page_holds_are_listed(moto_options: StoreOptions) -> None:
    client = boto3.client("s3", endpoint_url=moto_options.endpoint, region_name="us-east-1")
    for number in range(5):
        client.put_object(Bucket="engines", Key=f"many/{number}", Body=b"")
    client.close()
    store = S3Store(moto_options)
    add = store._client.meta.events.register_first
    add("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    assert len(list(store.list("s3://engines/many/"))) == 5


def test_a_missing_bucket_is_named(moto_options: StoreOptions, small: Path) -> None:
    store = S3Store(moto_options)
    for act in (store.head, lambda uri: store.upload(small, uri), lambda uri: list(store.list(f"{uri}/"))):
        with pytest.raises(StorageDeniedError, match="there is no bucket 'no-such-bucket'; create it") as caught:
            act("s3://no-such-bucket/x")
        assert not isinstance(caught.value, ObjectMissingError)
        assert moto_options.endpoint in str(caught.value)


def test_a_bucket_alone_is_no_object() -> None:
    with pytest.raises(UsageError, match="no object in it"):
        S3Store(StoreOptions(region="us-east-1")).head("s3://engines/")


def test_a_secrets_credentials_go_before_the_environments(scripted: Any, answer: Any) -> None:
    server = scripted(lambda *_: answer(status=200, headers={"ETag": '"e"'}))
    credentials = {"AWS_ACCESS_KEY_ID": "AKIATENANT", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "token"}
    open_store(URI, server.options, credentials=credentials).head(URI)
    (_, _, headers), *_ = server.asked
    assert "AKIATENANT" in headers["authorization"]
    assert headers["x-amz-security-token"] == "token"


def test_a_secret_that_lacks_an_entry_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="lacks the entry 'AWS_SECRET_ACCESS_KEY'"):
        open_store(URI, StoreOptions(), credentials={"AWS_ACCESS_KEY_ID": "AKIATENANT"})


def test_without_credentials_it_says_where_they_may_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageDeniedError, match="no usable credentials; set AWS_ACCESS_KEY_ID"):
        S3Store(StoreOptions(endpoint="http://127.0.0.1:9", region="us-east-1")).head(URI)


REFUSALS = [
    (403, "InvalidAccessKeyId", StorageDeniedError, "refused it"),
    (403, "SignatureDoesNotMatch", StorageDeniedError, "refused it"),
    (403, "AccessDenied", StorageDeniedError, "AccessDenied: said the server"),
    (400, "ExpiredToken", StorageDeniedError, "refused it"),
    (404, "NoSuchKey", ObjectMissingError, "no such object"),
    (404, "NoSuchBucket", StorageDeniedError, "no bucket 'engines'"),
    (400, "AuthorizationHeaderMalformed", StorageDeniedError, "another region"),
    (500, "InternalError", StorageError, "in trouble"),
    (503, "SlowDown", StorageError, "in trouble"),
    (507, "XMinioStorageFull", StorageError, "is full"),
    (403, "QuotaExceeded", StorageError, "is full"),
    (501, "NotImplemented", StorageDeniedError, "conditional writes"),
]


@pytest.mark.parametrize(("status", "code", "kind", "words"), REFUSALS)
@pytest.mark.parametrize("verb", ["head", "download", "upload", "list"])
def test_each_refusal_has_its_class_and_its_sentence(
    scripted: Any, answer: Any, secret: str, small: Path, verb: str, status: int, code: str, kind: type, words: str
) -> None:
    server = scripted(lambda *_: answer.error(status, code))
    store = S3Store(server.options, limits=TWICE)
    acts = {
        "head": lambda: store.head(URI),
        "download": lambda: store.download(URI, small.parent / "fetched"),
        "upload": lambda: store.upload(small, URI),
        "list": lambda: list(store.list("s3://engines/plans/")),
    }
    with pytest.raises(EnginewrightError, match=words) as caught:
        acts[verb]()
    sentence = str(caught.value)
    assert type(caught.value) is kind
    assert "s3://engines/plans/" in sentence
    assert server.options.endpoint in sentence
    assert sentence.count("\n") == 0
    assert secret not in sentence
    assert "AKIATEST" not in sentence


def test_a_refusal_to_remove_is_told(scripted: Any, answer: Any) -> None:
    server = scripted(lambda *_: answer.error(403, "AccessDenied"))
    with pytest.raises(StorageDeniedError, match=r"Cannot remove s3://engines/plans/x.plan"):
        S3Store(server.options, limits=TWICE).delete(URI)


def test_a_store_that_is_down_is_worth_another_try() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(StorageError, match="the connection failed") as caught:
            S3Store(StoreOptions(endpoint=endpoint, region="us-east-1"), limits=TWICE).head(URI)
    assert not isinstance(caught.value, StorageDeniedError)
    assert endpoint in str(caught.value)


def test_a_store_that_is_slow_is_not_waited_for_for_ever(scripted: Any, answer: Any) -> None:
    server, started = scripted(lambda *_: answer(status=200, delay=1000)), time.monotonic()
    with pytest.raises(StorageError, match="did not answer in time"):
        S3Store(server.options, limits=Limits(read_timeout=0.5, attempts=2, pause=0.01)).head(URI)
    assert time.monotonic() - started < 120


def test_an_endpoint_that_is_no_url_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(UsageError, match="check the endpoint"):
        S3Store(StoreOptions(endpoint="not a url", region="us-east-1")).head(URI)


def test_a_ca_bundle_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"'/no/such\.pem' \(caBundle\)"):
        S3Store(StoreOptions(ca_bundle="/no/such.pem"))


def test_a_password_in_the_endpoint_is_not_repeated() -> None:
    options = StoreOptions(endpoint="http://user:hunter2@127.0.0.1:9", region="us-east-1")
    with pytest.raises(StorageError) as caught:
        S3Store(options, limits=TWICE).head(URI)
    assert "hunter2" not in str(caught.value)


def test_a_conflict_of_two_writers_is_tried_again(scripted: Any, answer: Any, small: Path) -> None:
    answers = iter([answer.error(409, "ConditionalRequestConflict"), answer.error(412, "PreconditionFailed")])
    server = scripted(lambda *_: next(answers))
    assert S3Store(server.options, limits=TWICE).upload(small, URI) is False
    assert [headers["if-none-match"] for _, _, headers in server.asked] == ["*", "*"]


def test_a_conflict_that_does_not_end_is_told(scripted: Any, answer: Any, small: Path) -> None:
    server = scripted(lambda *_: answer.error(409, "ConditionalRequestConflict"))
    with pytest.raises(StorageError, match="ConditionalRequestConflict"):
        S3Store(server.options, limits=TWICE).upload(small, URI)
    assert len(server.asked) == TWICE.attempts


def test_a_server_error_is_tried_again(scripted: Any, answer: Any) -> None:
    answers = iter([answer.error(503, "SlowDown"), answer(status=200, headers={"ETag": '"e"'})])
    server = scripted(lambda *_: next(answers))
    assert S3Store(server.options, limits=TWICE).head(URI).version == "e"


def test_a_store_that_does_not_know_checksums_gets_none(scripted: Any, answer: Any, small: Path) -> None:
    def picky(_method: str, _path: str, headers: dict[str, str]) -> Any:
        return answer.error(400, "InvalidArgument") if "x-amz-checksum-crc32" in headers else answer(status=200)

    server = scripted(picky)
    store = S3Store(server.options, limits=TWICE)
    assert store.upload(small, URI) is True
    assert store.upload(small, URI) is True
    assert len(server.asked) == 3  # asked once with a checksum, and never again


def test_an_empty_answer_code_is_still_a_sentence(scripted: Any, answer: Any) -> None:
    server = scripted(lambda *_: answer(status=403, body=b"<html>no</html>"))
    with pytest.raises(StorageDeniedError, match="refused it"):
        S3Store(server.options, limits=TWICE).head(URI)
