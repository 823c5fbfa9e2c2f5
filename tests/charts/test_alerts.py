"""The alerts, evaluated by Prometheus' own promtool: each fires when it must, and does not when it must not.

alerts/*.yaml are promtool's unit tests of rules: series as a scrape gives them, and what fires at which time.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts.chart import program, render
from controlplane import binaries

CASES = sorted(Path(__file__).with_name("alerts").glob("*.yaml"))


def promtool(*arguments: str) -> str:
    """What promtool says; the test fails with it where promtool does."""
    tool = program("promtool", binaries.PROMTOOL_BUILD, "the alerts are not evaluated")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules, as Prometheus' operator would hand them over."""
    spec = render({"metrics": {"rules": {"enabled": True}}}).one("PrometheusRule")["spec"]
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def alerts(rules: Path) -> set[str]:
    return {rule["alert"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]}


def looks() -> Iterator[dict[str, Any]]:
    """Every look at an alert in the unit tests."""
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            yield from case["alert_rule_test"]


def test_prometheus_takes_the_rules_and_finds_nothing_to_say_of_them(rules: Path) -> None:
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))
    assert f"{len(alerts(rules))} rules found" in said


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_only_then(case: Path, rules: Path) -> None:
    placed = rules.with_name(case.name)  # promtool looks for the rules beside the case
    placed.write_text(case.read_text())
    assert "SUCCESS" in promtool("test", "rules", str(placed))


def test_every_alert_is_seen_firing_and_seen_silent(rules: Path) -> None:
    fired = {look["alertname"] for look in looks() if look["exp_alerts"]}
    silent = {look["alertname"] for look in looks() if not look["exp_alerts"]}
    assert fired == silent == alerts(rules)
