"""What keeps a whole engine from being worked on."""

from enginewright_operator import api, recipes
from enginewright_operator.conditions import Reason, Verdict
from enginewright_operator.gather import EngineInput
from enginewright_operator.policies.chain import Check, stalled
from enginewright_runtime.plan.recipe import ModelFormat


def paused(inp: EngineInput) -> Verdict | None:
    """A person told us to leave it alone."""
    if not inp.engine.spec.paused:
        return None
    return stalled(Reason.PAUSED, "The engine is paused and left as it is: set spec.paused to false to go on.")


def gateway_api_missing(inp: EngineInput) -> Verdict | None:
    """Where a route is wanted, the cluster knows what that is."""
    if inp.gateways:
        return None
    return stalled(
        Reason.GATEWAY_API_MISSING,
        "serving.route asks for an HTTPRoute and the cluster has none of the Gateway API's kinds: install its CRDs "
        "(gateway.networking.k8s.io/v1), or take serving.route away.",
    )


def name_taken(inp: EngineInput) -> Verdict | None:
    """Nothing of somebody else's stands where the engine's Deployments and what is around them would."""
    if not inp.in_the_way:
        return None
    return stalled(
        Reason.NAME_TAKEN,
        f"The {inp.in_the_way[0]} is in the namespace {inp.engine.metadata.namespace} already and is not this "
        "engine's: delete it, or give the InferenceEngine another name.",
    )


def storage_unknown(inp: EngineInput) -> Verdict | None:
    """There is somewhere to put plans."""
    if inp.storage is not None:
        return None
    return stalled(
        Reason.STORAGE_UNKNOWN,
        "The engine names no storage and the operator has no default one: set spec.storage.uri, or the operator's "
        "default storage.",
    )


def file_uris_refused(inp: EngineInput) -> Verdict | None:
    """Nothing lies in files of one machine, unless pods are processes of it."""
    if inp.file_uris_allowed or inp.storage is None:
        return None
    uris = (inp.storage.uri, *recipes.input_uris(inp.engine.spec).values())
    local = next((uri for uri in uris if uri.startswith("file:")), None)
    if local is None:
        return None
    return stalled(
        Reason.FILE_STORAGE_REFUSED,
        f"{local} lies on one machine, where the pods of a cluster do not find it: put it into object storage "
        "(s3://bucket/key), or use `enginewright up` on that machine.",
    )


def plugins_refused(inp: EngineInput) -> Verdict | None:
    """Foreign code runs only where whoever installed the operator said so."""
    plugins = inp.engine.spec.build.plugins
    if inp.plugins_allowed or not plugins:
        return None
    return stalled(
        Reason.PLUGINS_REFUSED,
        f"The engine brings code of its own ({', '.join(plugins)}), and this operator runs none: leave "
        "spec.build.plugins out, or have the operator installed with plugins.allow.",
    )


def format_unknown(inp: EngineInput) -> Verdict | None:
    """An importer can be chosen."""
    if recipes.format_of(inp.engine.spec) is not None:
        return None
    return stalled(
        Reason.FORMAT_UNKNOWN,
        f"The format of the model {inp.engine.spec.model.uri} cannot be told from its suffix: set spec.model.format to "
        f"one of {', '.join(ModelFormat)}.",
    )


def credentials_missing(inp: EngineInput) -> Verdict | None:
    """The Secret that is named is there and has its keys."""
    name = inp.storage.credentials_secret if inp.storage else None
    if not name:
        return None
    if inp.credential_keys is None:
        return stalled(
            Reason.CREDENTIALS_MISSING,
            f"The Secret {name}, which spec.storage.credentialsSecret names, is not in the namespace "
            f"{inp.engine.metadata.namespace}: create it with the keys {' and '.join(api.CREDENTIAL_KEYS)}.",
        )
    missing = [key for key in api.CREDENTIAL_KEYS if key not in inp.credential_keys]
    if not missing:
        return None
    return stalled(
        Reason.CREDENTIALS_MISSING,
        f"The Secret {name} lacks the key {missing[0]}, with which to reach the storage: add it.",
    )


def signing_keys_missing(inp: EngineInput) -> Verdict | None:
    """The keys that the operator's settings name are in the engine's namespace: pods would wait for them in silence."""
    if not inp.missing_keys:
        return None
    return stalled(
        Reason.SIGNING_KEYS_MISSING,
        f"The {inp.missing_keys[0]}, which the operator's signing settings name, is not in the namespace "
        f"{inp.engine.metadata.namespace}: create it (docs/operations.md says with what in it).",
    )


def inputs_unreadable(inp: EngineInput) -> Verdict | None:
    """The store has told the version of each input."""
    return inp.storage_problem


ENGINE_CHECKS: tuple[Check[EngineInput], ...] = (
    paused,  # a person said so; nothing else matters
    gateway_api_missing,  # its objects could not even be asked for
    name_taken,  # before anything is applied, since an apply would take it over
    storage_unknown,  # without it there is nowhere to look
    file_uris_refused,  # before anything is asked of a file on the operator's own machine
    plugins_refused,  # before the code is looked for
    format_unknown,  # needs no request
    credentials_missing,  # one request to the API server, before any to the store
    signing_keys_missing,  # a pod would wait for them, and say so nowhere but in its events
    inputs_unreadable,  # the store's own answer: wrong credentials, no such object, unreachable
)
