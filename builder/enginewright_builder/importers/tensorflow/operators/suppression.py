"""Non-maximum suppression: of boxes that overlap the one with the highest score."""

import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import Tensor


def _kept(call: Call) -> ir.Value:
    """(boxes [n, 4], scores [n], most, overlap, least score, …) -> places [m] of int64."""
    scope, (boxes, scores, most, *thresholds) = call.scope, call.inputs
    found = scope.put(
        "NonMaxSuppression",
        scope.put("Unsqueeze", scope.plain(boxes), scope.ints(0)),
        scope.put("Unsqueeze", scope.plain(scores), scope.ints(0, 1)),
        scope.vector(most),
        *(scope.put("Reshape", scope.plain(each), scope.ints(1)) for each in thresholds[:2]),
    )
    column = scope.put("Slice", found, scope.ints(2), scope.ints(3), scope.ints(1))
    return scope.put("Reshape", column, scope.ints(-1))


def _places(call: Call) -> list[Tensor]:
    """V2 and V3: the places alone."""
    return [Tensor(value=call.scope.put("Cast", _kept(call), to=ir.DataType.INT32), rank=1)]


def _counted(call: Call) -> list[Tensor]:
    """V4: places, with zeros behind to as many as are wanted at most if so asked, and how many there are."""
    kept = _kept(call)
    return [Tensor(value=call.scope.put("Cast", _filled(call, kept), to=ir.DataType.INT32), rank=1), _count(call, kept)]


def _scored(call: Call) -> list[Tensor]:
    """V5: as V4, with the scores behind the places; a score that decays with overlap is another algorithm."""
    if call.constant(5, "soft_nms_sigma").any():
        raise call.refuse("lets scores decay with overlap (soft_nms_sigma), for which ONNX has no layer: wanted 0")
    kept, scope = _kept(call), call.scope
    scores = scope.put("Gather", scope.plain(call.inputs[1]), kept, axis=0)
    places = scope.put("Cast", _filled(call, kept), to=ir.DataType.INT32)
    return [Tensor(value=places, rank=1), Tensor(value=_filled(call, scores), rank=1), _count(call, kept)]


def _filled(call: Call, value: ir.Value) -> ir.Value:
    if not call.flag("pad_to_max_output_size"):
        return value
    scope = call.scope
    missing = scope.put("Sub", scope.vector(call.inputs[2]), scope.put("Shape", value))
    return scope.put("Pad", value, scope.put("Concat", scope.ints(0), missing, axis=0))


def _count(call: Call, kept: ir.Value) -> Tensor:
    size = call.scope.put("Cast", call.scope.put("Size", kept), to=ir.DataType.INT32)
    return Tensor(value=size, rank=0)


TABLE: Table = {
    "NonMaxSuppressionV2": _places,
    "NonMaxSuppressionV3": _places,
    "NonMaxSuppressionV4": _counted,
    "NonMaxSuppressionV5": _scored,
}
