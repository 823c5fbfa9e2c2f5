"""The timing cache: written once, whole, and damaged files count as none."""

from pathlib import Path

from enginewright_builder.tuning import timings
from enginewright_builder.tuning.timings import Entry, Timed, Timings

FAST = Entry(timed=(Timed(tactic="cudnn", name="engine 3", microseconds=4.5),))
SLOW = Entry(timed=(Timed(tactic="portable", name="rows", microseconds=9.0),))
NAME = timings.key("a problem", "a device")


def test_what_one_build_measured_the_next_one_finds(tmp_path: Path) -> None:
    Timings(tmp_path).put(NAME, FAST)
    assert Timings(tmp_path).get(NAME) == FAST


def test_the_first_writer_wins_so_that_equal_builds_choose_equally(tmp_path: Path) -> None:
    first, second = Timings(tmp_path), Timings(tmp_path)
    first.put(NAME, FAST)
    assert second.put(NAME, SLOW) == FAST
    assert second.get(NAME) == FAST


def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path) -> None:
    Timings(tmp_path).put(NAME, FAST)
    (path,) = tmp_path.rglob("*.json")
    path.write_text("{")
    again = Timings(tmp_path)
    assert again.get(NAME) is None
    again.put(NAME, SLOW)
    assert Timings(tmp_path).get(NAME) == SLOW


def test_other_parts_make_another_key() -> None:
    assert timings.key("a problem", "a device") == NAME
    assert timings.key("a problem", "another device") != NAME
    assert timings.key("a problema device") != NAME


def test_without_a_folder_it_remembers_for_one_build() -> None:
    cache = Timings(None)
    cache.put(NAME, FAST)
    assert cache.get(NAME) == FAST
    assert (cache.hits, cache.misses) == (1, 0)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    cache = Timings(file)
    assert cache.put(NAME, FAST) == FAST
    assert cache.get(NAME) == FAST
