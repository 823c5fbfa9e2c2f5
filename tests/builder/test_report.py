"""The report: plain values for the manifest, and one page for people."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from enginewright_builder import page, report
from enginewright_builder.measuring import Accuracy, Latency
from enginewright_builder.passes import PassReport
from enginewright_builder.report import ScheduleFacts
from enginewright_builder.tactics.variant import Variant
from enginewright_builder.tuning.allowance import NO_TIME
from enginewright_builder.tuning.problems import Chosen
from enginewright_builder.tuning.timings import Timed
from enginewright_builder.tuning.tune import Trial, Tuned
from enginewright_runtime.plan.manifest import Arena, Segment
from enginewright_runtime.plan.request import Verdict

SEGMENT = Segment(executor="host", inputs=("x",), outputs=("y",), blob="s")
TRIALS = (
    Trial(name="fused, 1 thread", reason="small", rough_ms=1.0, median_ms=1.5, p99_ms=2.0, samples=9, chosen=True),
    Trial(name="untouched, 1 thread", reason="plain", rough_ms=3.0),
    Trial(name="contrib, 1 thread", reason="clever", error=0.5, dropped="wrong: output 'y' is <off>"),
)
FACTS = ScheduleFacts(
    shapes="x [1, 4]",
    layers_before=9,
    layers_after=4,
    kinds={"Conv": 4},
    passes=[PassReport(name="fold", changed=2, details=tuple(str(n) for n in range(300)), declined=("not me",))],
    checked_with="random inputs",
    arena=Arena(bytes=512, sum_of_tensors=2048, lower_bound=256),
    tuned=Tuned(segment=SEGMENT, variant=Variant.FUSED, tactic="1 thread", why="fastest", trials=TRIALS),
    latency=Latency(p50=1.0, p90=2.0, p99=3.0, samples=100),
)
VERDICT = Verdict(gate="memory", passed=False, measured=2, limit=1, unit="bytes", message="memory gate: too much")


def made() -> dict[str, Any]:
    accuracy = Accuracy(model=0.9, plan=0.8, samples=10)
    return report.of(schedules=[FACTS], notes=["a note"], verdicts=[VERDICT], accuracy=accuracy, weights_bytes=1 << 20)


def told() -> dict[str, Any]:
    return {
        "model": "<script>alert(1)</script>.onnx",
        "message": "Built.",
        "digest": "0" * 64,
        "layers_before": 9,
        "layers_after": 4,
        "latency_ms": {"p50": 1.0, "p99": 3.0},
        "gates": made()["gates"],
        "report": made(),
    }


def test_a_report_tells_of_every_candidate_how_it_ended() -> None:
    chosen, slow, wrong = made()["schedules"][0]["candidates"]
    assert (chosen["median_ms"], chosen["samples"], chosen["chosen"]) == (1.5, 9, True)
    assert (slow["rough_ms"], "median_ms" in slow, "chosen" in slow) == (3.0, False, False)
    assert wrong["dropped"].startswith("wrong")
    assert wrong["error"] == 0.5


def test_a_report_is_json_and_long_lists_are_cut_with_their_number() -> None:
    (each,) = json.loads(json.dumps(made()))["schedules"][0]["passes"]
    assert len(each["details"]) == 201
    assert each["details"][-1] == "and 100 more"
    assert each["declined"] == ["not me"]


def test_a_report_says_that_the_arena_is_informative() -> None:
    assert "informative" in made()["schedules"][0]["arena"]["note"]


class Tags(HTMLParser):
    """Which tags there are, and whether they close in order."""

    VOID = ("meta", "rect", "br", "!doctype")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_the_page_is_well_formed_and_asks_nothing_of_the_network() -> None:
    text = page.render(told())
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert "http" not in text


def test_the_page_shows_what_was_found_and_escapes_names() -> None:
    text = page.render(told())
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    for wanted in ("9 → 4", "memory gate: too much", "a note", "is &lt;off&gt;", "lower bound", "1.5 ms · chosen"):
        assert wanted in text


@pytest.mark.parametrize("candidates", [[], [{"name": "a", "reason": "r", "error": 0.0, "dropped": "fails"}]])
def test_no_candidate_that_was_right_draws_no_bars(candidates: list[dict[str, Any]]) -> None:
    assert page.bars(candidates) == ""


def test_bars_are_in_order_of_time_and_the_longest_fills_the_room() -> None:
    drawn = page.bars(made()["schedules"][0]["candidates"])
    assert drawn.index("fused, 1 thread") < drawn.index("untouched, 1 thread")
    assert "contrib" not in drawn
    assert "width='480.0'" in drawn


def test_a_bar_that_is_far_longer_is_cut_off_with_an_arrow() -> None:
    slow = {"name": "slow", "reason": "r", "error": 0.0, "rough_ms": 1000.0}
    fast = {"name": "fast", "reason": "r", "error": 0.0, "median_ms": 1.0, "chosen": True}
    drawn = page.bars([fast, slow])
    assert "→ ~ 1e+03 ms" in drawn
    assert "width='80.0'" in drawn  # a sixth of the room


def test_the_page_lists_what_runs_each_layer_on_a_gpu_and_why_rivals_were_dropped() -> None:
    rivals = [
        {"tactic": "cudnn", "name": "engine 4", "microseconds": 3.5},
        {"tactic": "generated", "name": "rows", "dropped": "wrong: output <y>"},
    ]
    chosen = {
        "layers": ["conv1", "conv2"],
        "tactic": "hopper gemm",
        "name": "64x64",
        "microseconds": 2.5,
        "rivals": rivals,
    }
    page_of = page._tactics([chosen])
    assert "conv1, conv2" in page_of
    assert "hopper gemm: 64x64</td><td>2.5" in page_of
    assert "cudnn: engine 4 3.5" in page_of
    assert "wrong: output &lt;y&gt;" in page_of


def test_a_candidate_that_was_wrong_or_crashed_is_named_however_many_were_right() -> None:
    right = [Timed(tactic="generated", name=str(number), microseconds=2.0 + number) for number in range(30)]
    late = Timed(tactic="cudnn", name="engine 1", dropped=NO_TIME)
    bad = [Timed(tactic="cudnn", name="engine 0", dropped="fails: the process that ran it was ended by SIGABRT.")]
    chosen = Chosen(layers=("conv",), tactic="t", name="n", microseconds=1.0, error=0.1, rivals=(*right, late, *bad))
    told = report._chosen(chosen)
    assert [rival["name"] for rival in told["rivals"]] == ["0", "1", "2", "3", "4", "5", "engine 0"]
    assert "more_dropped" not in told


def test_what_is_dropped_in_hundreds_is_counted() -> None:
    bad = tuple(Timed(tactic="cudnn", name=str(number), dropped="wrong: output") for number in range(100))
    told = report._chosen(Chosen(layers=("conv",), tactic="t", name="n", microseconds=1.0, error=0.1, rivals=bad))
    assert (len(told["rivals"]), told["more_dropped"]) == (40, 60)
