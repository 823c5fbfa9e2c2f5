"""The CRDs: the chart's copies are those of crds/, whole, and stay when the chart goes."""

import pytest
import yaml
from charts.chart import CHART, ROOT, render

SOURCE = sorted((ROOT / "crds").glob("*.yaml"))
KEEP = {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("path", SOURCE, ids=lambda path: path.name)
def test_the_charts_copy_of_a_crd_is_the_one_in_crds(path):
    copy = CHART / "crds-files" / path.name
    found = copy.read_bytes() if copy.is_file() else b""
    assert found == path.read_bytes(), f"{copy} is out of date: run `make crds`"


def test_the_chart_has_a_copy_of_every_crd_and_no_other():
    assert [path.name for path in sorted((CHART / "crds-files").glob("*.yaml"))] == [path.name for path in SOURCE]
    assert len(SOURCE) == 3


def test_a_crd_is_rendered_as_it_is_but_for_the_keep_annotation():
    rendered = {each["metadata"]["name"]: each for each in render().all("CustomResourceDefinition")}
    for path in SOURCE:
        wanted = yaml.safe_load(path.read_text())
        wanted["metadata"]["annotations"] = KEEP
        assert rendered.pop(wanted["metadata"]["name"]) == wanted
    assert not rendered


def test_crds_without_keep_are_removed_with_the_release():
    crds = render({"crds": {"keep": False}}).all("CustomResourceDefinition")
    assert len(crds) == 3
    assert not any("annotations" in each["metadata"] for each in crds)


def test_crds_can_be_left_to_somebody_else():
    assert render({"crds": {"enabled": False}}).all("CustomResourceDefinition") == []
