"""docs/plan-format.md tells the truth: its reader reads what the container wrote."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "plan-format.md"


def test_the_reader_in_the_documentation_reads_a_plan(
    plan: Path, blobs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(plan.parent)
    plan.rename("engine.plan")
    names: dict[str, Any] = {}
    exec(program, names)
    assert {name: bytes(view) for name, view in names["blobs"].items()} == blobs
