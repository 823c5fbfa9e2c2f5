"""The report of what belongs to nothing, of a real cluster and a real folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign.replicas import Replicas

pytestmark = pytest.mark.cluster


def report(replicas: Replicas) -> dict[str, list[str]]:
    """What `enginewright orphans --json` says of the namespace."""
    environment = os.environ | {"KUBECONFIG": str(replicas.plane.kubeconfig)}
    command = [sys.executable, "-m", "enginewright_runtime.cli", "orphans", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return {name: [row for row in rows if replicas.namespace in row] for name, rows in found.items()}


def test_a_stray_file_and_a_plan_without_its_file_are_found(replicas: Replicas, eventually: Callable[..., Any]) -> None:
    replicas.start()
    replicas.apply("engine")
    eventually(lambda: replicas.ready("engine"), 60)
    assert report(replicas) == {"filesWithoutPlan": [], "plansWithoutFile": [], "unread": []}
    (file,) = Path(replicas.folder, "store").rglob("engine.plan")
    stray = file.parent.parent / ("0" * 64) / "engine.plan"
    stray.parent.mkdir()
    file.rename(stray)
    found = report(replicas)
    assert found["filesWithoutPlan"] == [f"file://{stray}"]
    assert [row.endswith(str(file)) for row in found["plansWithoutFile"]] == [True]
