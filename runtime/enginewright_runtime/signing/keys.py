"""ed25519 keys as PEM files, as openssl writes them. A private key is held for one signature and never shown."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.signature import Signature

LIMIT = 16 << 10  # bytes of a key's file: more is no key


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that signatures are checked with. `id` is the sha256 of its DER, as `openssl pkey -pubin -outform DER`."""

    id: str
    key: Ed25519PublicKey = field(repr=False)

    def made(self, signature: Signature, message: bytes) -> bool:
        """Whether this key signed this message."""
        try:
            self.key.verify(base64.b64decode(signature.value, validate=True), message)
        except (InvalidSignature, binascii.Error):
            return False
        return True


class Signer:
    """A private key, ready to sign. Its repr holds no secret."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _public(key.public_key())

    def __call__(self, message: bytes) -> Signature:
        """The signature of a message."""
        return Signature(key=self.public.id, value=base64.b64encode(self._key.sign(message)).decode())


def read_private(path: Path) -> Signer:
    """The private key in a PEM file. Raises UsageError naming the file."""
    key = _loaded(path, "private key", lambda pem: serialization.load_pem_private_key(pem, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise _another(path, "private key")
    return Signer(key)


def read_public(path: Path) -> tuple[PublicKey, ...]:
    """The public keys in a PEM file, or in every file of a folder but hidden ones (as a ConfigMap is mounted).

    Raises UsageError naming the file.
    """
    files = [path]
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if not each.name.startswith(".") and each.is_file())
    keys = [_loaded(file, "public key", serialization.load_pem_public_key) for file in files]
    for file, key in zip(files, keys, strict=True):
        if not isinstance(key, Ed25519PublicKey):
            raise _another(file, "public key")
    if not keys:
        raise UsageError(f"The folder {path} holds no public key: put at least one PEM file into it.")
    return tuple(_public(key) for key in keys)


def _public(key: Ed25519PublicKey) -> PublicKey:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(id=sha256(der).hexdigest(), key=key)


def _loaded(path: Path, what: str, load: Callable[[bytes], Any]) -> Any:
    try:
        with path.open("rb") as file:
            return load(file.read(LIMIT))
    except OSError as error:
        raise UsageError(
            f"The {what} {path} cannot be read ({error.strerror}): give the path of a PEM file."
        ) from error
    except TypeError as error:  # what cryptography says where a password is needed
        raise UsageError(
            f"The {what} {path} is encrypted: write it without a password (openssl pkey -in KEY -out PLAIN)."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _another(path, what) from error


def _another(path: Path, what: str) -> UsageError:
    make = "openssl genpkey -algorithm ed25519 -out KEY; openssl pkey -in KEY -pubout -out KEY.pub"
    return UsageError(f"The file {path} holds no ed25519 {what} in PEM: make a pair with {make}.")
