"""TensorArrays and TensorLists: rows that are stacked. What a loop writes, row by row, becomes its scan output."""

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.scope import Rows, Tensor


def _rows(call: Call, index: int) -> Rows:
    found = call.inputs[index].rows
    if found is None:
        raise call.refuse("reads an array of tensors that is made in a way that is not known here")
    return found


def _stacked(call: Call, rows: Rows) -> Tensor:
    if rows.stacked is None:
        raise call.refuse("reads an array of tensors before the loop that writes it has ended")
    return rows.stacked


def _new(size: int | None) -> Convert:
    """An array with nothing in it; a TensorArray is a handle and a flow, which are one here."""

    def convert(call: Call) -> list[Tensor]:
        rows = Rows(size=None if size is None else call.inputs[size])
        return [Tensor(rows=rows), Tensor(rows=rows)]

    return convert


def _filled(value: int, places: int | None, rows: int | None) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        if places is not None and not _in_order(call.inputs[places]):
            raise call.refuse("fills an array of tensors in another order than from the first to the last")
        size = None if rows is None else _rows(call, rows).size
        return [Tensor(rows=Rows(size=size, stacked=call.inputs[value]))]

    return convert


def _in_order(places: Tensor) -> bool:
    if places.array is not None:
        return bool((places.array == np.arange(places.array.size)).all())
    producer = places.value.producer() if places.value is not None else None
    return producer is not None and producer.op_type == "Range"


def _read(rows: int) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        stacked = _stacked(call, _rows(call, rows))
        value = call.scope.put("Gather", call.scope.plain(stacked), call.scope.plain(call.inputs[1]), axis=0)
        return [Tensor(value=value, rank=None if stacked.rank is None else stacked.rank - 1)]

    return convert


def _write(rows: int, value: int) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        given = _rows(call, rows)
        if given.row is not None:
            raise call.refuse("writes an array of tensors twice in one iteration")
        return [Tensor(rows=Rows(size=given.size, stacked=given.stacked, row=call.inputs[value], at=call.inputs[1]))]

    return convert


def _stack(call: Call) -> list[Tensor]:
    return [_stacked(call, _rows(call, 0))]


def _gather(call: Call) -> list[Tensor]:
    """TensorArrayGatherV3(handle, places, flow); all of them in order is what stands there already."""
    stacked, places = _stacked(call, _rows(call, 2)), call.inputs[1]
    if _in_order(places):
        return [stacked]
    value = call.scope.put("Gather", call.scope.plain(stacked), call.scope.plain(places), axis=0)
    return [Tensor(value=value, rank=stacked.rank)]


def _length(rows: int) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        given, scope = _rows(call, rows), call.scope
        if given.size is not None:
            return [given.size]
        sizes = scope.put("Shape", scope.plain(_stacked(call, given)), start=0, end=1)
        whole = scope.put("Squeeze", sizes, scope.ints(0))
        return [Tensor(value=scope.put("Cast", whole, to=ir.DataType.INT32), rank=0)]

    return convert


TABLE: Table = {
    "TensorArrayV3": _new(0),
    "TensorArrayScatterV3": _filled(2, 1, 3),
    "TensorArrayReadV3": _read(2),
    "TensorArrayWriteV3": _write(3, 2),
    "TensorArrayGatherV3": _gather,
    "TensorArraySizeV3": _length(1),
    "TensorListReserve": _new(1),
    "TensorListFromTensor": _filled(0, None, None),
    "TensorListGetItem": _read(0),
    "TensorListSetItem": _write(0, 2),
    "TensorListStack": _stack,
    "TensorListLength": _length(0),
}
