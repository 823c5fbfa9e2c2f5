"""Lines of progress for the operator: few, parseable, and beside what people see."""

from enginewright_builder import announced
from enginewright_builder.progress import Silent
from enginewright_runtime.plan.progress import BuildProgress


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def test_a_phase_says_that_it_begins_and_then_now_and_then_how_far_it_is():
    clock, lines = Clock(), []
    with announced.Announced(Silent(), lines.append, clock=clock).phase("Trying tactics", total=10) as step:
        for index in range(10):
            step(f"candidate {index}")
            clock.now += 0.5
    told = [BuildProgress.last_in(line) for line in lines]
    assert [(each.done, each.total, each.seconds_left) for each in told] == [(0, 10, 0), (4, 10, 3), (8, 10, 1)]
    assert told[1].sentence == "Trying tactics, 4 of 10, about 3 s left."


def test_a_phase_of_unknown_length_says_only_what_it_is():
    lines = []
    with announced.Announced(Silent(), lines.append).phase("Fetching the model"):
        pass
    assert BuildProgress.last_in("\n".join(lines)).sentence == "Fetching the model."
