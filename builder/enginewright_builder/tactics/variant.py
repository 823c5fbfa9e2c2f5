"""The forms in which a network can be handed to an executor: each is one column of the tactics' table."""

from enum import StrEnum


class Variant(StrEnum):
    """Which network a tactic runs.

    fused: after the passes, fused layers expanded into ONNX operators. contrib: the same, with ONNX Runtime's
    contributed fused layers in their place. untouched: as imported, shapes fixed, no pass run.
    """

    FUSED = "fused"
    CONTRIB = "contrib"
    UNTOUCHED = "untouched"
