"""What belongs to nothing is listed, and of what could not be read nothing is said."""

from operator_objects import plan

from enginewright_operator.orphans import compare

BUILT = plan(phase="Built")
FILE = BUILT.spec.plan_uri
STRAY = "s3://p/plans/n/0123/engine.plan"


def test_files_and_plans_that_belong_together_are_not_listed() -> None:
    found = compare([BUILT], [FILE, FILE + ".report.html"], unread={})
    assert found.files_without_plan == found.plans_without_file == ()


def test_a_file_of_which_no_plan_knows_is_listed() -> None:
    assert compare([BUILT], [FILE, STRAY], unread={}).files_without_plan == (STRAY,)


def test_a_built_plan_without_its_file_is_listed_and_one_that_is_not_built_is_not() -> None:
    assert compare([BUILT], [], unread={}).plans_without_file == (f"n/{BUILT.metadata.name}: {FILE}",)
    assert compare([plan(phase="Building")], [], unread={}).plans_without_file == ()


def test_of_storage_that_could_not_be_listed_nothing_is_said_but_that() -> None:
    found = compare([BUILT], [], unread={"s3://p/plans/n/": "No."})
    assert found.plans_without_file == ()
    assert found.unread == ("s3://p/plans/n/: No.",)
