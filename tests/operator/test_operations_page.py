"""docs/operations.md is what a person has at three in the morning: nothing that the operator may say is missing."""

import re
from pathlib import Path

from enginewright_operator.conditions import Reason
from enginewright_runtime.plan.outcome import Outcome

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()


def test_every_reason_is_explained_once_with_what_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (ready|working|stalled|event) \| (.+?) \| (.+?) \|$", PAGE, flags=re.MULTILINE)
    assert [row[0] for row in rows] == [str(reason) for reason in Reason]


def test_every_outcome_of_a_build_is_explained_once_with_its_exit_code_and_whether_it_is_tried_again() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (.*?) ?\| .+? \| .+? \|$", PAGE, flags=re.MULTILINE)
    again = {Outcome.DONE: "", Outcome.OUT_OF_MEMORY: "once, at once"}
    wanted = [(each.name, str(int(each)), again.get(each, "no" if each.permanent else "yes")) for each in Outcome]
    assert rows == wanted
