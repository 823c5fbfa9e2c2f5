"""The CRDs: the chart's copies are those of crds/, and lie where Helm installs them before everything else."""

import pytest
import yaml
from charts.chart import CHART, ROOT, render

SOURCE = sorted((ROOT / "crds").glob("*.yaml"))


@pytest.mark.parametrize("path", SOURCE, ids=lambda path: path.name)
def test_the_charts_copy_of_a_crd_is_the_one_in_crds(path):
    copy = CHART / "crds" / path.name
    found = copy.read_bytes() if copy.is_file() else b""
    assert found == path.read_bytes(), f"{copy} is out of date: run `make crds`"


def test_the_chart_has_a_copy_of_every_crd_and_no_other():
    assert [path.name for path in sorted((CHART / "crds").iterdir())] == [path.name for path in SOURCE]
    assert len(SOURCE) == 3


def test_helm_takes_the_crds_for_crds_and_not_for_templates():
    assert render().all("CustomResourceDefinition") == []
    found = {each["metadata"]["name"]: each for each in render({}, "--include-crds").all("CustomResourceDefinition")}
    assert found == {each["metadata"]["name"]: each for each in (yaml.safe_load(path.read_text()) for path in SOURCE)}


def test_the_readme_and_the_notes_say_how_crds_are_upgraded_and_removed():
    names = " ".join(yaml.safe_load(path.read_text())["metadata"]["name"] for path in SOURCE)
    for file, folder in (("README.md", "charts/enginewright/crds/"), ("templates/NOTES.txt", "crds/")):
        text = (CHART / file).read_text()
        assert f"kubectl apply --server-side --force-conflicts -f {folder}" in text
        (line,) = (line for line in text.splitlines() if "kubectl delete crd" in line)
        assert sorted(line.split()[3:]) == sorted(names.split())
