"""docs/operations.md is what a person has at three in the morning: nothing that the operator may say is missing."""

import re
from pathlib import Path

from enginewright_operator.conditions import Reason

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()


def test_every_reason_is_explained_once_with_what_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (ready|working|stalled|event) \| (.+?) \| (.+?) \|$", PAGE, flags=re.MULTILINE)
    assert [row[0] for row in rows] == [str(reason) for reason in Reason]
