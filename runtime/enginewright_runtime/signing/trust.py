"""Whose plans are taken: a policy and public keys. `Trust.check` is what PlanFile calls before it reads on.

A plan is trusted if any of its signatures is right and of a trusted key. So keys rotate without a gap: trust the new
key beside the old one, sign with the new, and drop the old when no plan needs it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from enginewright_runtime.errors import SignatureError, UsageError
from enginewright_runtime.plan.signature import Seal, Signature
from enginewright_runtime.signing.keys import PublicKey, read_private, read_public

logger = logging.getLogger(__name__)
SHOWN = 16  # digits of a key's id in a sentence


class Policy(StrEnum):
    """What becomes of a plan that no trusted key has signed."""

    REQUIRE = "require"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom to believe."""

    policy: Policy
    keys: tuple[PublicKey, ...]

    def check(self, path: Path, message: bytes, signatures: Sequence[Signature]) -> None:
        """Raise SignatureError, or log a warning, as the policy says, where no trusted key signed this message."""
        try:
            self.signer(path, message, signatures)
        except SignatureError as error:
            if self.policy is Policy.REQUIRE:
                raise
            logger.warning("%s", error.message)

    def signer(self, path: Path, message: bytes, signatures: Sequence[Signature]) -> PublicKey:
        """The trusted key that signed. Raises SignatureError, which says why there is none."""
        known = {key.id: key for key in self.keys}
        of_trusted = [each for each in signatures if each.key in known]
        for signature in of_trusted:
            if known[signature.key].made(signature, message):
                return known[signature.key]
        if of_trusted:
            raise SignatureError(
                f"The plan {path} is not what the key {of_trusted[0].key[:SHOWN]} signed: it, or its signature, was "
                "changed; fetch or build it again."
            )
        trusted = f"the trusted keys are {_listed(list(known))}"
        if signatures:
            raise SignatureError(
                f"The plan {path} is signed by {_listed([each.key for each in signatures])}, and {trusted}: trust that "
                "key, or sign the plan with one of these (enginewright sign)."
            )
        raise SignatureError(
            f"The plan {path} is not signed, and {trusted}: sign it with one of them (enginewright sign, or "
            "enginewright build --sign-key)."
        )


def seal(private_key: Path) -> Seal:
    """What a builder with this private key signs with, and takes for its own. Raises UsageError naming the file."""
    signer = read_private(private_key)
    return Seal(sign=signer, check=Trust(policy=Policy.REQUIRE, keys=(signer.public,)).check)


def trust(policy: Policy, keys: Path | None) -> Trust | None:
    """Whom to believe where the public keys are in the file or folder `keys`; None where nothing is to be checked.

    Raises UsageError for a policy without keys.
    """
    if policy is Policy.OFF:
        return None
    if keys is None:
        raise UsageError(
            f"The signature policy {policy} needs public keys: name their file or folder (--trusted-keys)."
        )
    return Trust(policy=policy, keys=read_public(keys))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(key[:SHOWN] for key in keys[:8])
