"""What boto3 raises, in our own three errors, mapped here once.

Each sentence names the URI and the endpoint and says what to do. It must never hold a secret: of what a server says
only its error code is repeated, and for AccessDenied its message, which names who may not do what.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from botocore import exceptions
from urllib3.exceptions import HTTPError as TransportError

from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError

_NO_OBJECT = ("NoSuchKey", "NotFound", "404", "NoSuchVersion")
_FULL = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "507")
_WRONG_REGION = ("PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_IDENTITY = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.NoAuthTokenError,
    exceptions.UnauthorizedSSOTokenError,
    exceptions.ProfileNotFound,
)
_SETTINGS = (exceptions.ParamValidationError, exceptions.ValidationError, exceptions.EndpointProviderError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was being done, for the sentence: a verb ("fetch"), the URI, its bucket, and the endpoint."""

    verb: str
    uri: str
    bucket: str
    endpoint: str


@contextmanager
def mapped(request: Request) -> Iterator[None]:
    """Turn whatever boto3 raises within into an error of ours."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _refusal(error, request) from error
    except _IDENTITY as error:
        raise StorageDeniedError(
            f"Cannot {request.verb} {request.uri} at {request.endpoint}: there are no usable credentials; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (credentialsSecret), or give the pod an identity."
        ) from error
    except (exceptions.BotoCoreError, TransportError, ValueError) as error:
        raise _failure(error, request) from error


def code_of(error: exceptions.ClientError) -> str:
    """The server's error code; for a HEAD, which has no body, the HTTP status as text."""
    return str(error.response.get("Error", {}).get("Code") or "")


def status_of(error: exceptions.ClientError) -> int:
    """The HTTP status, 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def without_secrets(url: str) -> str:
    """A URL without the user, the password and the query that it may hold."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _refusal(error: exceptions.ClientError, request: Request) -> StorageError:
    code, status = code_of(error), status_of(error)
    attempt = f"Cannot {request.verb} {request.uri} at {request.endpoint}"
    if code == "NoSuchBucket":
        return StorageDeniedError(f"{attempt}: there is no bucket {request.bucket!r}; create it, or correct the URI.")
    if code in _NO_OBJECT:
        return ObjectMissingError(f"{attempt}: there is no such object; check the URI, or store the object first.")
    if code in _FULL or status == 507:
        return StorageError(f"{attempt}: the store is full ({code}); make room there, or raise the bucket's quota.")
    if code in _WRONG_REGION:
        return StorageDeniedError(f"{attempt}: the bucket is of another region ({code}); set the right region.")
    if code == "NotImplemented" or status in (405, 501):
        return StorageDeniedError(
            f"{attempt}: the store does not know this request ({code}); a store for plans must take conditional writes "
            "(If-None-Match), as Amazon S3 and MinIO do."
        )
    if status == 429 or status >= 500 or code in ("SlowDown", "RequestTimeout", "ConditionalRequestConflict"):
        return StorageError(f"{attempt}: the store is in trouble ({code or status}); try again later.")
    if status == 412:
        return StorageError(f"{attempt}: the object was replaced meanwhile; try again.")
    said = str(error.response.get("Error", {}).get("Message", "")) if code == "AccessDenied" else ""
    answer = f"{code}: {' '.join(said.split())[:200]}" if said else code or str(status)
    return StorageDeniedError(
        f"{attempt}: the store refused it ({answer}); check the credentials and what they allow, and this "
        "machine's clock."
    )


def _failure(error: Exception, request: Request) -> StorageError | UsageError:
    attempt = f"Cannot {request.verb} {request.uri} at {request.endpoint}"
    if isinstance(error, exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return StorageDeniedError(f"{attempt}: its certificate is not trusted; give its authority as caBundle.")
        return StorageError(f"{attempt}: no TLS connection came about; check the endpoint's scheme and port.")
    if isinstance(error, exceptions.ProxyConnectionError):
        return StorageError(f"{attempt}: the proxy does not answer; check HTTPS_PROXY and NO_PROXY.")
    if isinstance(error, exceptions.ReadTimeoutError | exceptions.ConnectTimeoutError):
        return StorageError(f"{attempt}: it did not answer in time; check the endpoint and the network.")
    if isinstance(error, exceptions.FlexibleChecksumError):
        return StorageError(f"{attempt}: the bytes that came do not have the store's checksum; try again.")
    if isinstance(error, exceptions.CredentialRetrievalError | exceptions.TokenRetrievalError):
        return StorageError(f"{attempt}: the pod's identity could not be turned into credentials; try again later.")
    if isinstance(error, _SETTINGS) and not isinstance(error, TransportError):
        return UsageError(f"{attempt}: the request cannot be made; check the endpoint, the region and the bucket.")
    return StorageError(f"{attempt}: the connection failed ({type(error).__name__}); check the endpoint and try again.")
