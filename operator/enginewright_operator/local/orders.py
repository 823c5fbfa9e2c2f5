"""What a manifest orders, target by target: the recipe, the plan and its place, whether it is there, why it is built.

`explain` prints it and `up` carries it out. It reads object storage, and a note of what was built before.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewright_operator import api, choice, drift, recipes
from enginewright_operator.errors import ManifestError
from enginewright_operator.gpu import Node
from enginewright_operator.local import manifests
from enginewright_operator.local.manifests import Manifests
from enginewright_runtime.errors import ObjectMissingError, PlanError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.request import BuildRequest
from enginewright_runtime.storage import uris
from enginewright_runtime.storage.open import open_store
from enginewright_runtime.storage.store import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One target's plan. `why` says what differs from the plan before it, `choice` why this product of several."""

    target: api.Target
    gpu_class: api.GPUClass
    recipe: Recipe
    plan: api.EnginePlan
    exists: bool
    why: str
    choice: str = ""

    @property
    def digest(self) -> str:
        """The recipe's digest, the plan's name."""
        return self.plan.spec.digest

    @property
    def request(self) -> BuildRequest:
        """What the build is asked for."""
        return recipes.build_request(self.plan)


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where plans of this machine's user are kept: $XDG_DATA_HOME/enginewright, else ~/.local/share/enginewright."""
    home = environment.get("XDG_DATA_HOME", "")
    root = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "share"
    return root / "enginewright"


def local_storage(given: Manifests, folder: Path) -> api.Storage:
    """A folder of this machine in place of the manifest's storage, which is still how its model is reached."""
    uri = uris.from_path(folder.expanduser().resolve())
    storage = given.engine.spec.storage
    inputs = recipes.input_uris(given.engine.spec).values()
    if storage is None or all(uris.scheme(each) == "file" for each in inputs):
        return api.Storage(uri=uri)
    return storage.model_copy(update={"uri": uri})


def order(
    given: Manifests,
    target: api.Target,
    storage: api.Storage,
    *,
    notes: Path,
    nodes: Sequence[Node] | None = None,
    held: str = "",
) -> Order:
    """The order for one target, whose class the file must hold. Raises StorageError and its kin, ManifestError.

    Of a class of several products it is for the one that the nodes decide on, `held` where that is the present one's.
    """
    whole = given.gpu_classes[target.gpu_class]
    chosen = choice.choose(whole, nodes, held=held)
    gpu_class = choice.only(whole, chosen.product) if chosen else None
    if chosen is None or gpu_class is None:
        raise ManifestError(
            f"The GPUClass {target.gpu_class} takes any product, and no node is there to choose one by: give the class "
            "its product, or ask where its cluster answers."
        )
    recipe = recipes.recipe_for(given.engine.spec, gpu_class, _identities(given, storage), driver=chosen.driver)
    before = _noted(_note(given, target, notes))
    why = drift.why_rebuilt(before, recipe)
    plan = recipes.engine_plan(given.engine, storage, gpu_class, recipe, why=why)
    return Order(
        target=target,
        gpu_class=gpu_class,
        recipe=recipe,
        plan=plan,
        exists=_exists(plan.spec.plan_uri, given, storage),
        why=why,
        choice=chosen.sentence,
    )


def note_built(given: Manifests, ordered: Order, *, notes: Path) -> None:
    """Remember the recipe of a target's plan, for the next `why`."""
    path = _note(given, ordered.target, notes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(records.canonical(ordered.recipe))


def forget(given: Manifests, ordered: Order) -> None:
    """Delete the plan from its place, so that it is built again."""
    _store(ordered.plan.spec.plan_uri, given, ordered.plan.spec.storage).delete(ordered.plan.spec.plan_uri)


def _identities(given: Manifests, storage: api.Storage) -> recipes.Identities:
    spec = given.engine.spec
    known = {
        name: _store(uri, given, storage).head(uri).identity
        for name, uri in recipes.input_uris(spec).items()
        if name != "model" or not spec.model.sha256
    }
    if spec.model.sha256:
        known["model"] = f"sha256:{spec.model.sha256}"
    return recipes.Identities.of(known)


def _exists(uri: str, given: Manifests, storage: api.Storage) -> bool:
    try:
        _store(uri, given, storage).head(uri)
    except ObjectMissingError:
        return False
    return True


def _store(uri: str, given: Manifests, storage: api.Storage) -> ObjectStore:
    if uris.scheme(uri) == "file":
        return open_store(uri, recipes.store_options(storage))
    secret = manifests.credentials(given, storage)
    return open_store(uri, recipes.store_options(storage), credentials=secret)


def _note(given: Manifests, target: api.Target, notes: Path) -> Path:
    metadata = given.engine.metadata
    return notes / "built" / (metadata.namespace or "default") / metadata.name / f"{target.gpu_class}.json"


def _noted(path: Path) -> Recipe | None:
    """The recipe of the plan before; None where there was none, or one that this version cannot read."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return records.from_json(Recipe, records.parse(text, what=str(path)), what=str(path))
    except PlanError:
        return None
