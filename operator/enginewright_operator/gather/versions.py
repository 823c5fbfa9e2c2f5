"""Which version each input of an engine has: its namespace's credentials in hand, the store is asked."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from enginewright_operator import api, recipes
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.conditions import Reason, State, Verdict
from enginewright_operator.gather.credentials import Credentials
from enginewright_operator.gather.facts import EngineInput
from enginewright_operator.gather.inputs import Answer, Inputs, Question, question
from enginewright_operator.settings import Settings
from enginewright_operator.stores import Access, Stores
from enginewright_operator.watched import Put
from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError


class Versions:
    """Asks the stores, and remembers until the next round what they answered."""

    def __init__(self, kube: CachedKube, credentials: Credentials, stores: Stores, settings: Settings) -> None:
        self._kube = kube
        self._credentials = credentials
        self._stores = stores
        self._settings = settings
        self._answers = Inputs()

    async def of_engine(self, inp: EngineInput) -> EngineInput:
        """The same with what the store says about the inputs, where it may be asked."""
        spec, storage, namespace = inp.engine.spec, inp.storage, inp.engine.metadata.namespace
        if storage is None or spec.paused or (_uses_files(inp) and not inp.file_uris_allowed):
            return inp
        asked = _questions(inp.engine, storage)
        known = self._answers.known(asked.values())
        if known is not None:
            opened = frozenset(api.CREDENTIAL_KEYS)  # with them the store was asked
            return replace(inp, credential_keys=opened, identities=_identities(spec, asked, known))
        secret = await self._credentials.secret(namespace, storage)
        keys = None if secret is None else frozenset(secret)
        inp = replace(inp, credential_keys=keys)
        if storage.credentials_secret and not set(api.CREDENTIAL_KEYS) <= (keys or set()):
            return inp
        access = Access(
            storage=storage,
            credentials=secret or {},
            ca_certificates=await self._credentials.certificates(namespace, storage),
        )
        try:
            found = await asyncio.gather(*(self._stores.identity(each.uri, access) for each in asked.values()))
        except (StorageError, UsageError) as error:
            return replace(inp, storage_problem=_problem(error))
        known = dict(zip(asked.values(), found, strict=True))
        for each, answer in known.items():
            self._answers.remember(each, answer)
        return replace(inp, identities=_identities(spec, asked, known))

    def known(self, engine: api.InferenceEngine) -> bool:
        """Whether the versions of all its inputs are remembered."""
        storage = engine.spec.storage or self._settings.default_storage
        return storage is not None and self._answers.known(_questions(engine, storage).values()) is not None

    async def poll(self, put: Put, *, within: float) -> int:
        """Ask the stores for the versions of all engines' inputs, spread over so many seconds; put whose is new."""
        asking: dict[Question, list[tuple[str, str]]] = defaultdict(list)
        async for manifest in self._kube.each("InferenceEngine"):
            engine = api.read(api.InferenceEngine, manifest)
            storage = engine.spec.storage or self._settings.default_storage
            if storage is not None and not engine.spec.paused:
                for each in _questions(engine, storage).values():
                    asking[each].append((engine.metadata.namespace, engine.metadata.name))
        return await self._answers.poll(
            asking, self._ask, lambda namespace, name: put("InferenceEngine", namespace, name), within=within
        )

    async def _ask(self, asked: Question) -> Answer:
        try:
            access = await self._credentials.access(asked.namespace, api.Storage.model_validate_json(asked.storage))
            return await self._stores.identity(asked.uri, access)
        except (StorageError, UsageError) as error:
            return error


def _questions(engine: api.InferenceEngine, storage: api.Storage) -> dict[str, Question]:
    """What a store has to be asked for an engine, by the input's name in Identities."""
    asked = dict(recipes.input_uris(engine.spec))
    if engine.spec.model.sha256:
        del asked["model"]
    return {name: question(engine.metadata.namespace, storage, uri) for name, uri in asked.items()}


def _identities(
    spec: api.InferenceEngineSpec, asked: Mapping[str, Question], answers: Mapping[Question, str]
) -> recipes.Identities:
    given = {"model": f"sha256:{spec.model.sha256}"} if spec.model.sha256 else {}
    return recipes.Identities.of(given | {name: answers[each] for name, each in asked.items()})


def _uses_files(inp: EngineInput) -> bool:
    uris = [*recipes.input_uris(inp.engine.spec).values(), inp.storage.uri if inp.storage else ""]
    return any(uri.startswith("file:") for uri in uris)


def _problem(error: StorageError | UsageError) -> Verdict:
    if isinstance(error, ObjectMissingError):
        return Verdict(state=State.STALLED, reason=Reason.OBJECT_MISSING, message=error.message)
    if isinstance(error, StorageDeniedError | UsageError):
        return Verdict(state=State.STALLED, reason=Reason.STORAGE_DENIED, message=error.message)
    return Verdict(state=State.WORKING, reason=Reason.STORAGE_UNREACHABLE, message=error.message)
