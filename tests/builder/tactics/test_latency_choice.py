"""What the model of the latency convolution offers: the configurations that were best on a card must be among them."""

import dataclasses

import pytest

from enginewright_builder.tactics import latency_choice
from enginewright_builder.tactics.latency_geometry import Configuration, Window, Work, shared_bytes


def work(
    channels: int, outputs: int, size: int, kernel: int = 1, stride: int = 1, pair: int = 0, images: int = 1
) -> Work:
    window = Window(kernel=(kernel, kernel), stride=(stride, stride), pad=(kernel // 2, kernel // 2))
    return Work(window=window, images=images, channels=channels, outputs=outputs, height=size, width=size, pair=pair)


def configuration(splits: int, blocks: int, rows: int, half: bool = False) -> Configuration:
    return Configuration(block_channels=64, blocks=blocks, splits=splits, rows=rows, half=half)


# ResNet-50 at batch 1, tuned in the network on an H200.
BEST = [
    (work(64, 64, 56, 3), configuration(1, 1, 7)),
    (work(64, 256, 56, pair=64), configuration(1, 2, 8)),
    (work(256, 128, 56), configuration(1, 4, 7)),
    (work(128, 512, 28, pair=256), configuration(1, 6, 7)),
    (work(512, 128, 28), configuration(1, 8, 5)),
    (work(128, 128, 28, 3), configuration(2, 1, 7)),
    (work(256, 256, 14, 3, 2), configuration(4, 1, 5, half=True)),
    (work(1024, 256, 14), configuration(4, 4, 7, half=True)),
    (work(256, 256, 14, 3), configuration(4, 1, 7, half=True)),
    (work(512, 512, 7, 3), configuration(8, 1, 7, half=True)),
    (work(2048, 512, 7), configuration(8, 4, 7, half=True)),
    (work(512, 2048, 7), configuration(1, 8, 4)),
]


# At batch 8, in chains on an H200.
ABREAST = [
    (work(256, 256, 14, 3, images=8), configuration(2, 2, 7, half=True), 2, 1),
    (work(128, 128, 28, 3, images=8), configuration(1, 2, 7), 2, 1),
    (work(512, 512, 7, 3, images=8), dataclasses.replace(configuration(4, 2, 7, half=True), ring=17), 3, 1),
    (work(256, 1024, 14, images=8), configuration(1, 4, 7), 2, 2),
]


@pytest.mark.parametrize(("given", "one", "abreast", "groups"), ABREAST)
def test_tiles_abreast_are_among_the_first_at_batch_8(
    given: Work, one: Configuration, abreast: int, groups: int
) -> None:
    best = dataclasses.replace(one, abreast=abreast, groups=groups)
    assert best in latency_choice.configurations(given, 132, "float16")[:3]


def test_clusters_of_four_fill_fewer_multiprocessors() -> None:
    """32 clusters of four, one block a multiprocessor: an H200 holds 30, so the last two come in a second wave."""
    given, one = work(512, 512, 7, 3, images=8), configuration(4, 2, 7, half=True)
    fits = dataclasses.replace(given, outputs=448)
    both = [latency_choice.microseconds(each, dataclasses.replace(one, abreast=2), 132) for each in (given, fits)]
    assert both[0] > 1.4 * both[1]


@pytest.mark.parametrize(("given", "best"), BEST)
def test_the_best_measured_is_offered(given: Work, best: Configuration) -> None:
    assert best in latency_choice.configurations(given, 132, "float16")


@pytest.mark.parametrize("given", [each for each, _ in BEST])
def test_something_exact_is_offered_beside_sums_sent_as_float16(given: Work) -> None:
    assert any(not each.half for each in latency_choice.configurations(given, 132, "float16"))


def test_no_cluster_has_a_block_that_half_as_many_would_not_need() -> None:
    for each in latency_choice.every(work(320, 64, 14), "float16"):
        assert each.splits == 1 or each.blocks < -(-320 // (each.block_channels * each.splits // 2))


def test_tiles_of_equal_count_are_offered_at_the_least_height_alone() -> None:
    assert {each.rows for each in latency_choice.every(work(64, 64, 14), "float16")} == {4, 5, 7}


def test_a_batch_is_walked_over() -> None:
    offered = latency_choice.configurations(work(64, 64, 56, 3, images=8), 132, "float16")
    assert any(each.walk > 1 for each in offered)


def test_more_work_takes_longer_by_the_model() -> None:
    given, each = BEST[0]
    bigger = dataclasses.replace(given, images=64)
    assert latency_choice.microseconds(bigger, each, 132) > latency_choice.microseconds(given, each, 132)


def test_all_that_is_offered_fits() -> None:
    for given, _ in BEST:
        for each in latency_choice.configurations(given, 132, "float16"):
            assert shared_bytes(given, each) <= 227 * 1024
