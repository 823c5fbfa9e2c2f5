"""Time and memory have names: the layers and tensors that take the most."""

from enginewright_builder import causes
from enginewright_builder.tuning.problems import Chosen
from enginewright_runtime.plan.manifest import Arena, Placement


def test_the_slowest_layers_come_first_with_their_share_and_equal_layers_count_each() -> None:
    chosen = [
        Chosen(layers=("a", "b"), tactic="cudnn", name="engine 1", microseconds=100.0, error=0.0),
        Chosen(layers=("big",), tactic="gemm", name="128x128", microseconds=800.0, error=0.0),
    ]
    assert causes.slowest(chosen).startswith("of the layers' times the largest are 'big' 0.8 ms (80%, 128x128), 'a' ")


def test_where_no_layer_was_timed_nothing_is_said() -> None:
    assert causes.slowest([]) == ""


def test_the_largest_weights_and_tensors_are_named() -> None:
    tensors = {"hidden": Placement(offset=0, bytes=2 << 20, first=0, last=1)}
    arena = Arena(bytes=3 << 20, sum_of_tensors=3 << 20, lower_bound=3 << 20, tensors=tensors)
    said = causes.largest([None, arena], {"weights/fc": 8 << 20, "weights/b": 1 << 20})
    assert said == (
        "the plan's weights and programs are 9 MiB ('weights/fc' 8 MiB, 'weights/b' 1 MiB) and the tensors between "
        "layers 3 MiB at once ('hidden' 2 MiB)"
    )
