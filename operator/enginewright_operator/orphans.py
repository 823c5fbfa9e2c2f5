"""`enginewright orphans`: files under plans/ of which no EnginePlan knows, and built EnginePlans whose file is gone.

It only reads. What it finds is what a bucket keeps of a cluster that was lost, or what somebody deleted by hand.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from kubernetes.aio import client

from enginewright_operator import api
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.connection import connect
from enginewright_operator.gather import Gatherer
from enginewright_operator.settings import read
from enginewright_operator.stores import Stores
from enginewright_operator.watched import Watched
from enginewright_runtime.errors import ObjectMissingError, StorageError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What belongs to nothing. `unread` says of each place that could not be listed why."""

    files_without_plan: tuple[str, ...]
    plans_without_file: tuple[str, ...]
    unread: tuple[str, ...] = ()


def compare(plans: Iterable[api.EnginePlan], files: Iterable[str], *, unread: Mapping[str, str]) -> Report:
    """`files` are URIs; `unread` the folders that could not be listed, with the reason. Nothing is said of those."""
    plans, files = tuple(plans), frozenset(files)
    folders = tuple(plan.spec.plan_uri.rpartition("/")[0] + "/" for plan in plans)
    lost = (
        f"{plan.metadata.namespace}/{plan.metadata.name}: {plan.spec.plan_uri}"
        for plan in plans
        if plan.status is not None
        and plan.status.phase is api.Phase.BUILT
        and plan.spec.plan_uri not in files
        and not plan.spec.plan_uri.startswith(tuple(unread))
    )
    return Report(
        files_without_plan=tuple(sorted(uri for uri in files if not uri.startswith(folders))),
        plans_without_file=tuple(sorted(lost)),
        unread=tuple(f"{folder}: {why}" for folder, why in sorted(unread.items())),
    )


async def look(kube: CachedKube, gatherer: Gatherer, stores: Stores, default: api.Storage | None) -> Report:
    """Compare the cluster's EnginePlans with every storage that it or an InferenceEngine names."""
    plans = [api.read(api.EnginePlan, each) for each in await kube.find("EnginePlan")]
    engines = [api.read(api.InferenceEngine, each) for each in await kube.find("InferenceEngine")]
    places: dict[str, dict[str, api.Storage]] = defaultdict(dict)  # folder -> the ways to reach it
    named = [(plan.metadata.namespace, plan.spec.storage) for plan in plans]
    named += [(each.metadata.namespace, storage) for each in engines if (storage := each.spec.storage or default)]
    for namespace, storage in named:
        places[f"{storage.uri.rstrip('/')}/plans/{namespace}/"][storage.model_dump_json()] = storage
    files: set[str] = set()
    unread: dict[str, str] = {}
    for folder, storages in places.items():
        namespace = folder.rstrip("/").rpartition("/")[2]
        for storage in storages.values():
            try:
                files |= set(await stores.list_folder(folder, await gatherer.access(namespace, storage)))
            except ObjectMissingError:
                continue  # nothing was ever put there
            except (StorageError, UsageError) as error:
                unread[folder] = error.message
    return compare(plans, files, unread=unread)


async def _report() -> Report:
    await connect()
    settings = read()
    async with client.ApiClient() as connection:
        kube, stores = CachedKube(connection, Watched(lambda *_: None)), Stores()
        return await look(kube, Gatherer(kube, stores, settings), stores, settings.default_storage)


def orphans(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """List plan files without an EnginePlan, and EnginePlans without their file. Deletes nothing.

    With the kubeconfig's rights, to read EnginePlans, InferenceEngines and the Secrets that they name.

    Examples:
        enginewright orphans
        enginewright orphans --json
    """
    found = asyncio.run(_report())
    if as_json:
        names = {"files_without_plan": "filesWithoutPlan", "plans_without_file": "plansWithoutFile", "unread": "unread"}
        typer.echo(json.dumps({names[name]: rows for name, rows in asdict(found).items()}, ensure_ascii=False))
        return
    for title, rows in (
        ("Files of which no EnginePlan knows", found.files_without_plan),
        ("EnginePlans whose file is gone", found.plans_without_file),
        ("Storage that could not be listed", found.unread),
    ):
        typer.echo(f"{title}: {len(rows) or 'none'}")
        for row in rows:
            typer.echo(f"  {row}")
