"""Keys in pods: a Secret's private one in build pods alone, a ConfigMap's public ones where plans are served.

Both are files that the kubelet mounts. The operator never reads a private key, and a ConfigMap that gets another public
key reaches running pods without a rollout.
"""

from enginewright_operator.render.pods import Json
from enginewright_operator.settings import Settings

KEY = "signing.key"
KEY_FOLDER = "/etc/enginewright/signing"
TRUST_FOLDER = "/etc/enginewright/trusted-keys"
_GROUP_READS = 0o440  # the pod's fsGroup, and nobody else


def key_environment(settings: Settings) -> list[Json]:
    """Where the builder finds its private key."""
    return [{"name": "ENGINEWRIGHT_SIGN_KEY", "value": f"{KEY_FOLDER}/{KEY}"}] if settings.signing_secret else []


def key_mounts(settings: Settings) -> list[Json]:
    """The private key's folder in the builder's container."""
    return [{"name": "signing", "mountPath": KEY_FOLDER, "readOnly": True}] if settings.signing_secret else []


def key_volumes(settings: Settings) -> list[Json]:
    """The Secret with the private key."""
    if not settings.signing_secret:
        return []
    items = [{"key": KEY, "path": KEY}]
    secret = {"secretName": settings.signing_secret, "items": items, "defaultMode": _GROUP_READS}
    return [{"name": "signing", "secret": secret}]


def trust_environment(settings: Settings) -> list[Json]:
    """What the server does with plans that no trusted key signed, and where those keys are."""
    if settings.signature_policy == "off":
        return []
    values = {"SIGNATURE_POLICY": settings.signature_policy, "TRUSTED_KEYS": TRUST_FOLDER}
    return [{"name": f"ENGINEWRIGHT_{name}", "value": value} for name, value in values.items()]


def trust_mounts(settings: Settings) -> list[Json]:
    """The public keys' folder in the server's container."""
    if settings.signature_policy == "off":
        return []
    return [{"name": "trusted-keys", "mountPath": TRUST_FOLDER, "readOnly": True}]


def trust_volumes(settings: Settings) -> list[Json]:
    """The ConfigMap with the public keys."""
    if settings.signature_policy == "off":
        return []
    return [{"name": "trusted-keys", "configMap": {"name": settings.trusted_keys}}]
