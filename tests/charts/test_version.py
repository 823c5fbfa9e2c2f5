"""The chart and the program are released under one version."""

import re

import yaml
from charts.chart import CHART, ROOT


def test_the_chart_carries_the_version_of_the_package():
    source = (ROOT / "runtime" / "enginewright_runtime" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, flags=re.MULTILINE)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
