"""Storage that is down at each step of an engine's life: it goes on when storage is back, with nothing done twice."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engines.engine_case import MODEL_KEY, EngineCase
from engines.flaky_store import FlakyStore, everything, nothing

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RETRIES = 5  # that the S3 client makes by itself


@pytest.fixture
def flaky(object_store: Any) -> Iterator[FlakyStore]:
    """The store, up so far."""
    with FlakyStore(object_store.endpoint) as store:
        yield store


def reason(engine: EngineCase) -> str:
    return str(engine.condition("Reconciling").get("reason", ""))


def pods(engine: EngineCase, component: str, what: str) -> list[str]:
    """A field of each of the engine's pods of that part."""
    selector = f"app.kubernetes.io/component={component}"
    path = f"--output=jsonpath={{.items[*]{what}}}"
    return engine.cluster.kubectl("get", "pods", "--namespace", engine.namespace, "--selector", selector, path).split()


def test_storage_that_is_down_at_any_step_holds_an_engine_up_and_loses_it_nothing(
    engine: EngineCase, flaky: FlakyStore, eventually: Callable[..., Any]
) -> None:
    engine = dataclasses.replace(engine, endpoint=flaky.endpoint)

    # Before the recipe is known.
    flaky.down_for(everything)
    engine.apply()
    eventually(lambda: reason(engine) == "StorageUnreachable", 60)
    assert engine.objects("engineplan") == []

    # While the build fetches the model: the pod fails, and the Job makes another.
    flaky.down_for(lambda method, path: method == "GET" and MODEL_KEY in path)
    eventually(lambda: pods(engine, "build", ".status.phase") == ["Failed"], 120)
    assert flaky.refused >= RETRIES
    assert not engine.stalled()

    # While the plan is stored: it waits, longer than the client's own retries.
    flaky.down_for(lambda method, path: method == "PUT" and path.partition("?")[0].endswith("engine.plan"))
    eventually(lambda: flaky.refused > RETRIES, 120)
    assert engine.files() == []

    # While the pods fetch it: the container ends, and is begun again.
    flaky.down_for(lambda method, path: method in ("GET", "HEAD") and "engine.plan" in path)
    eventually(
        lambda: any(int(each) for each in pods(engine, "runtime", ".status.containerStatuses[*].restartCount")), 120
    )
    (plan,) = engine.objects("engineplan")
    assert engine.plan(plan)["status"]["attempts"] == 1
    assert sorted(pods(engine, "build", ".status.phase")) == ["Failed", "Succeeded"], "one build alone was ended"
    assert not engine.ready()
    flaky.down_for(nothing)
    assert engine.becomes_ready() == plan

    # While it is collected.
    flaky.down_for(everything)
    engine.cluster.kubectl("delete", "ie", engine.name, "--namespace", engine.namespace)
    eventually(lambda: flaky.refused >= RETRIES, 60)
    assert engine.objects("engineplan") == [plan]
    assert len(engine.files()) == 1
    flaky.down_for(nothing)
    eventually(lambda: engine.objects("engineplan,job,deployment,service,pod") == [], 60)
    assert engine.files() == []
