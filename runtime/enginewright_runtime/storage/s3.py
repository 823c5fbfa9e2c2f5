"""Objects in S3 and in everything that speaks its protocol, through boto3.

Credentials come from boto3's own chain (the environment, a web identity, the pod's or the instance's role) or from a
Secret that the caller holds; they are never part of a URI, a log line or an error. Only open.py imports this module,
and only when an s3:// URI is met, since most commands need no boto3.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from enginewright_runtime.errors import ObjectMissingError, UsageError
from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage import landing, s3_transfer, uris
from enginewright_runtime.storage.s3_errors import Request, code_of, mapped, status_of, without_secrets
from enginewright_runtime.storage.store import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

KEY_ID, SECRET_KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"

# What stores answer that do not know boto3's checksums (since 1.36): they get the request once more, without.
_NO_CHECKSUMS = (
    "NotImplemented",
    "InvalidArgument",
    "InvalidRequest",
    "MissingContentLength",
    "XAmzContentSHA256Mismatch",
    "SignatureDoesNotMatch",
)

Write = Callable[["S3Client", bool], None]


class S3Store:
    """Buckets at one endpoint with one identity, addressed by s3:// URIs."""

    def __init__(
        self,
        options: StoreOptions,
        *,
        credentials: Mapping[str, str] | None = None,
        limits: s3_transfer.Limits | None = None,
    ) -> None:
        """Make the client; nothing is asked of the store yet. Raises UsageError for settings that cannot work."""
        self._limits = limits or s3_transfer.Limits()
        endpoint = without_secrets(options.endpoint) or "Amazon S3"
        with mapped(Request(verb="reach", uri="s3://", bucket="", endpoint=endpoint)):
            session = _session(options, credentials or {})
            self._client = _client(session, options, self._limits, checksums=True)
        self._endpoint = without_secrets(self._client.meta.endpoint_url)
        weakref.finalize(self, self._client.close)  # a store is a value: nobody has to close it
        self._make_plain = partial(_client, session, options, self._limits, checksums=False)
        self._plain: S3Client | None = None
        self._checksums = True  # until the store turns out not to know them

    def head(self, uri: str) -> StoredObject:
        """Size and ETag, from one HEAD request."""
        bucket, key = _object(uri)
        return _stored(uri, self._head(bucket, key, self._request("look at", uri, bucket)))

    def download(self, uri: str, path: Path, *, durable: bool = True) -> StoredObject:
        """Fetch the object in parallel ranges of one version of it, verify it, and give it its name."""
        bucket, key = _object(uri)
        request = self._request("fetch", uri, bucket)
        head = self._head(bucket, key, request)
        with landing.landing(path, needed=head["ContentLength"], what=f"{uri} cannot be written here") as target:
            with mapped(request):
                s3_transfer.get(self._client, bucket, key, head, target, self._limits)
            s3_transfer.verify(head, target, uri=uri)
            landing.settle(target, durable=durable)
        return _stored(uri, head)

    def upload(self, path: Path, uri: str, *, overwrite: bool = False) -> bool:
        """Store the file under the condition that nothing is there yet, unless `overwrite`.

        False also if the answer to our own successful write was lost on the way and botocore's second attempt found
        the object: either way it is there, whole.
        """
        bucket, key = _object(uri)
        request = self._request("store", uri, bucket)
        with landing.opened(path, f"{path} cannot be read") as (descriptor, size), mapped(request):
            large = size > self._limits.single
            if large and not overwrite and self._exists(bucket, key):
                return False  # before many bytes travel for nothing
            source = s3_transfer.Source(
                descriptor=descriptor, bytes=size, sha256=landing.sha256_of(descriptor), overwrite=overwrite
            )
            if large:
                return self._store(bucket, key, source, self._in_parts(bucket, key, source))
            return self._store(bucket, key, source, self._whole(bucket, key, source))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object under the prefix, a page of a thousand at a time."""
        bucket, key = uris.to_bucket_and_key(uris.require_prefix(prefix))
        with mapped(self._request("list", prefix, bucket)):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for entry in page.get("Contents", ()):
                    uri = f"s3://{bucket}/{entry['Key']}"
                    yield StoredObject(uri=uri, bytes=entry["Size"], version=entry["ETag"].strip('"'))

    def delete(self, uri: str) -> None:
        """Remove the object (where the bucket keeps versions: mark it as removed)."""
        bucket, key = _object(uri)
        with suppress(ObjectMissingError), mapped(self._request("remove", uri, bucket)):
            self._client.delete_object(Bucket=bucket, Key=key)

    def _head(self, bucket: str, key: str, request: Request) -> "HeadObjectOutputTypeDef":
        with mapped(request):
            try:
                return self._client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if status_of(error) in (400, 403, 404):
                    # The answer to a HEAD has no body: a GET of one byte says why.
                    self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
                raise

    def _exists(self, bucket: str, key: str) -> bool:
        try:
            self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if status_of(error) in (403, 404):  # 403: writing may be allowed where reading is not
                return False
            raise
        return True

    def _store(self, bucket: str, key: str, source: s3_transfer.Source, write: Write) -> bool:
        for attempt in range(self._limits.attempts):
            try:
                self._with_or_without_checksums(write)
                return True
            except ClientError as error:
                if status_of(error) == 412 and not source.overwrite:
                    return False
                if code_of(error) == "NoSuchUpload" and self._holds(bucket, key, source):
                    return True  # the answer to our own completion was lost
                last = attempt + 1 == self._limits.attempts
                if last or code_of(error) not in ("ConditionalRequestConflict", "NoSuchUpload"):
                    raise
            self._limits.wait(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _holds(self, bucket: str, key: str, source: s3_transfer.Source) -> bool:
        try:
            found = self._client.head_object(Bucket=bucket, Key=key)
        except ClientError:
            return False
        return found["Metadata"].get(s3_transfer.SHA256_ENTRY) == source.sha256

    def _with_or_without_checksums(self, write: Write) -> None:
        if self._checksums:
            try:
                return write(self._client, True)
            except ClientError as error:
                if code_of(error) not in _NO_CHECKSUMS:
                    raise
        if self._plain is None:
            self._plain = self._make_plain()
            weakref.finalize(self, self._plain.close)
        write(self._plain, False)
        self._checksums = False

    def _whole(self, bucket: str, key: str, source: s3_transfer.Source) -> Write:
        return lambda client, _checksums: s3_transfer.put_whole(client, bucket, key, source)

    def _in_parts(self, bucket: str, key: str, source: s3_transfer.Source) -> Write:
        return lambda client, checksums: s3_transfer.put_in_parts(
            client, bucket, key, source, self._limits, checksums=checksums
        )

    def _request(self, verb: str, uri: str, bucket: str) -> Request:
        return Request(verb=verb, uri=uri, bucket=bucket, endpoint=self._endpoint)


def _object(uri: str) -> tuple[str, str]:
    bucket, key = uris.to_bucket_and_key(uri)
    if not key:
        raise UsageError(f"{uri!r} names a bucket and no object in it: it must look like s3://bucket/key.")
    return bucket, key


def _stored(uri: str, head: "HeadObjectOutputTypeDef") -> StoredObject:
    return StoredObject(uri=uri, bytes=head["ContentLength"], version=head["ETag"].strip('"'))


def _session(options: StoreOptions, credentials: Mapping[str, str]) -> boto3.Session:
    if credentials:
        missing = [name for name in (KEY_ID, SECRET_KEY) if not credentials.get(name)]
        if missing:
            raise UsageError(
                f"The Secret with the credentials lacks the entry {missing[0]!r}: "
                f"it must hold {KEY_ID} and {SECRET_KEY}."
            )
    if options.ca_bundle and not Path(options.ca_bundle).is_file():
        raise UsageError(f"The certificates {options.ca_bundle!r} (caBundle) are not a file: give a PEM file's path.")
    return boto3.Session(
        aws_access_key_id=credentials.get(KEY_ID),
        aws_secret_access_key=credentials.get(SECRET_KEY),
        aws_session_token=credentials.get(SESSION_TOKEN) or None,
        region_name=options.region or None,
    )


def _client(
    session: boto3.Session, options: StoreOptions, limits: s3_transfer.Limits, *, checksums: bool
) -> "S3Client":
    return session.client(
        "s3",
        endpoint_url=options.endpoint or None,
        verify=options.ca_bundle or None,
        config=Config(
            connect_timeout=limits.connect_timeout,
            read_timeout=limits.read_timeout,
            retries={"mode": "standard", "total_max_attempts": limits.attempts},
            max_pool_connections=limits.workers,
            request_checksum_calculation="when_supported" if checksums else "when_required",
            response_checksum_validation="when_supported" if checksums else "when_required",
            # Without its checksum a body is signed instead, over TLS too, so that the store still verifies it.
            s3={
                "addressing_style": "path" if options.path_style else "auto",
                **({} if checksums else {"payload_signing_enabled": True}),
            },
        ),
    )
