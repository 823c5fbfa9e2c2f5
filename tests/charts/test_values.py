"""values.yaml and its schema: what is not known is refused by name, and what is known is explained."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from charts.chart import CHART, Object, helm, refusal, render, run

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_helm_lint_has_nothing_to_say():
    done = subprocess.run([helm(), "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"watchNamespace": ["team-a"]}, "watchNamespace"),
        ({"crds": {"enabled": True}}, "crds"),
        ({"images": {"operator": {"diget": ""}}}, "diget"),
        ({"operator": {"replica": 2}}, "replica"),
        ({"operator": {"resources": {"limit": {}}}}, "limit"),
        ({"metrics": {"service": {"enable": True}}}, "enable"),
        ({"defaultStorage": {"bucket": "x"}}, "bucket"),
        ({"serviceAccount": {"annotation": {}}}, "annotation"),
        ({"gpuClasses": {"class": {}}}, "class"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_typo_is_refused_by_its_name(values: Object, name: str):
    assert f"additional properties '{name}' not allowed" in refusal(values)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"images": {"operator": {"digest": "sha256:12"}}}, "/images/operator/digest"),
        ({"images": {"pullPolicy": "Sometimes"}}, "/images/pullPolicy"),
        ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"defaultStorage": {"uri": "minio:9000/x"}}, "/defaultStorage/uri"),
        ({"defaultStorage": {"uri": "file:///plans"}}, "/defaultStorage/uri"),
        ({"build": {"memory": "much"}}, "/build/memory"),
        ({"operator": {"replicas": -1}}, "/operator/replicas"),
        ({"metrics": {"port": 80}}, "/metrics/port"),
        ({"operator": {"leaseSeconds": 1}}, "/operator/leaseSeconds"),
        ({"gpuClasses": {"enabled": "yes"}}, "/gpuClasses/enabled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_by_its_place(values: Object, where: str):
    assert f"'{where}'" in refusal(values)


def test_the_schema_is_closed_wherever_the_names_are_ours():
    def walk(schema: Object, path: str) -> None:
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, path
        for name, part in schema.get("properties", {}).items():
            walk(part, f"{path}.{name}")

    walk(SCHEMA, "values")


def test_the_schema_and_the_values_know_the_same_names():
    def names(schema: Object, values: Any, path: str) -> None:
        if "properties" in schema and isinstance(values, dict):
            known = set(schema["properties"]) - {"global", "claims"}
            assert known == set(values), path or "values"
            for name in known:
                names(schema["properties"][name], values[name], f"{path}.{name}")

    names(SCHEMA | {"properties": SCHEMA["properties"]}, VALUES, "")


def test_a_parent_chart_may_pass_its_global_values():
    assert render({"global": {"region": "eu"}}).all("Deployment")


def test_an_old_cluster_is_refused():
    done = run({}, "--kube-version", "1.28.3")
    assert done.returncode != 0
    assert "incompatible with Kubernetes v1.28.3" in done.stderr


def test_every_value_is_explained_by_a_comment_above_it():
    lines = (CHART / "values.yaml").read_text().splitlines()
    classes = next(number for number, line in enumerate(lines) if line == "  classes:")
    end = next(number for number, line in enumerate(lines) if line == "metrics:")
    bare = []
    for number, line in enumerate(lines):
        leaf = re.match(r"^ *[a-zA-Z]+: +\S", line)
        if leaf and not classes < number < end and not explained(lines, number):
            bare.append(line.strip())
    assert bare == []


def explained(lines: list[str], number: int) -> bool:
    """A comment above, with nothing between but siblings of the same block (the first of a group speaks for all)."""
    indent = len(lines[number]) - len(lines[number].lstrip())
    for line in reversed(lines[:number]):
        if line.strip().startswith("#"):
            return True
        if not line.strip() or (len(line) - len(line.lstrip()) < indent and not line.rstrip().endswith(":")):
            return False
    return False


def test_the_readmes_table_names_every_value():
    table = (CHART / "README.md").read_text()

    def paths(values: Any, prefix: str) -> list[str]:
        if not isinstance(values, dict) or not values or prefix == "gpuClasses.classes":
            return [prefix]
        return [each for name, part in values.items() for each in paths(part, f"{prefix}.{name}".lstrip("."))]

    whole = ("operator.resources.", "metrics.dashboard.labels.")
    missing = [each for each in paths(VALUES, "") if not each.startswith(whole) and f"`{each}`" not in table]
    assert missing == []
