"""DetectionOutput: SSD's boxes, decoded, thinned out class by class, and the best of each image.

Source: the layer of W. Liu et al., SSD: Single Shot MultiBox Detector (2016). Its order is kept: images, in them
classes, in them scores. Everything has a fixed shape up to the last step, which leaves out what holds no box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob, Writer

_NOTHING = float(np.finfo(np.float32).min)
_MOST_CLASSES = 1 << 20
_ROW = 7  # image, label, score, and four corners


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    images: int
    boxes: int
    labels: tuple[int, ...]  # without the background
    each: int  # at most so many boxes of a class are looked at
    kept: int  # at most so many boxes of an image are kept
    shared: bool  # whether all classes of an image share its boxes


def detection_output(layer: Layer) -> Sequence[Blob]:
    """[1, 1, detections, 7]; where nothing is found a row an image, of -1 behind its number, as Caffe has it."""
    given, write = layer.message.detection_output_param, layer.write
    sizes = _sizes(layer, given)
    boxes = _decoded(layer, given, sizes)
    scores = _scores(layer, sizes)
    candidates = _best_of_each_class(write, scores, sizes)
    thinned = _thinned(write, boxes, candidates, given, sizes)
    return [_rows(write, thinned, boxes, sizes)]


def _sizes(layer: Layer, given: Any) -> _Sizes:
    if not 1 <= given.num_classes <= _MOST_CLASSES:
        layer.wrong(f"it has {given.num_classes} classes, wanted 1 to {_MOST_CLASSES}")
    if given.nms_param.eta < 1:
        layer.refuse(f"its threshold shrinks as it goes (eta {given.nms_param.eta}): set nms_param.eta to 1")
    if not given.normalized_bbox:
        layer.refuse("its boxes are in pixels: train it with normalized_bbox")
    places, scores, priors = (bottom.shape for bottom in layer.bottoms)
    if not places or not scores or not priors:
        layer.wrong("it takes places and scores of [N, …] and priors of [1, 2, …], got a scalar")
    count, classes = priors[-1] // 4, given.num_classes
    images, groups = places[0], 1 if given.share_location else classes
    wanted = ((images, count * groups * 4), (images, count * classes), (1, 2, count * 4))
    got = ((places[0], int(np.prod(places[1:]))), (scores[0], int(np.prod(scores[1:]))), priors)
    if got != wanted:
        layer.wrong(f"its blobs have the shapes {[list(shape) for shape in got]}, wanted {[list(s) for s in wanted]}")
    labels = tuple(label for label in range(classes) if label != given.background_label_id)
    if not labels:
        layer.wrong("its only class is the background")
    top = given.nms_param.top_k
    each = count if top < 0 else min(top, count)
    most = each * len(labels)
    kept = most if given.keep_top_k < 0 else min(given.keep_top_k, most)
    if not kept:
        layer.wrong("it keeps no box: top_k or keep_top_k is 0")
    return _Sizes(images=images, boxes=count, labels=labels, each=each, kept=kept, shared=given.share_location)


def _decoded(layer: Layer, given: Any, sizes: _Sizes) -> Blob:
    """[images, 1 or labels, boxes, 4]: corners."""
    write, (places, _, priors) = layer.write, layer.bottoms
    groups = 1 if sizes.shared else given.num_classes
    deltas = write.reshape(places, (sizes.images, sizes.boxes, groups, 4))
    deltas = write.blob("Transpose", [deltas.value], (sizes.images, groups, sizes.boxes, 4), perm=[0, 2, 1, 3])
    if not sizes.shared:
        shape = (sizes.images, len(sizes.labels), sizes.boxes, 4)
        deltas = write.blob("Gather", [deltas.value, write.constant(sizes.labels, "labels")], shape, axis=1)
    pair = write.reshape(priors, (2, sizes.boxes, 4))
    prior, variance = write.values("Split", [pair.value, write.constant([1, 1], "halves")], outputs=2, axis=0)
    moved = deltas.value
    if not given.variance_encoded_in_target:
        moved = write.values("Mul", [moved, variance])[0]
    return Blob(_corners(layer, given, moved, prior), deltas.shape)


def _corners(layer: Layer, given: Any, moved: ir.Value, prior: ir.Value) -> ir.Value:
    """The boxes that the deltas make of the priors; the constants' shapes broadcast over images and labels."""
    write = layer.write
    halves = write.constant([2, 2], "corners")

    def each(operator: str, *inputs: ir.Value) -> ir.Value:
        return write.values(operator, inputs)[0]

    def split(value: ir.Value) -> Sequence[ir.Value]:
        return write.values("Split", [value, halves], outputs=2, axis=-1)

    if given.code_type == given.CORNER:
        made = each("Add", prior, moved)
    else:
        (low, high), (first, second) = split(prior), split(moved)
        size = each("Sub", high, low)
        if given.code_type == given.CORNER_SIZE:
            pair = [each("Add", low, each("Mul", first, size)), each("Add", high, each("Mul", second, size))]
        else:
            half = write.scalar(0.5, "half")
            centre = each("Add", each("Mul", first, size), each("Mul", each("Add", low, high), half))
            reach = each("Mul", each("Mul", each("Exp", second), size), half)
            pair = [each("Sub", centre, reach), each("Add", centre, reach)]
        made = write.values("Concat", pair, axis=-1)[0]
    if given.clip:
        made = each("Clip", made, write.scalar(0.0, "least"), write.scalar(1.0, "most"))
    return made


def _scores(layer: Layer, sizes: _Sizes) -> Blob:
    """[images, labels, boxes]."""
    write, classes = layer.write, layer.message.detection_output_param.num_classes
    rows = write.reshape(layer.bottoms[1], (sizes.images, sizes.boxes, classes))
    shape = (sizes.images, classes, sizes.boxes)
    turned = write.blob("Transpose", [rows.value], shape, perm=[0, 2, 1])
    if len(sizes.labels) == classes:
        return turned
    shape = (sizes.images, len(sizes.labels), sizes.boxes)
    return write.blob("Gather", [turned.value, write.constant(sizes.labels, "labels")], shape, axis=1)


def _best_of_each_class(write: Writer, scores: Blob, sizes: _Sizes) -> Blob:
    """The scores with everything below the top_k of a class made nothing."""
    if sizes.each == sizes.boxes:
        return scores
    top = write.constant([sizes.each], "top")
    best, where = write.values("TopK", [scores.value, top], outputs=2, axis=2)
    nothing = write.values("Expand", [write.scalar(_NOTHING, "nothing"), write.constant(scores.shape, "all")])[0]
    return write.blob("ScatterElements", [nothing, where, best], scores.shape, axis=2)


def _thinned(write: Writer, boxes: Blob, scores: Blob, given: Any, sizes: _Sizes) -> Blob:
    """The scores with every box made nothing that overlaps a better one of its class, or is below the threshold."""
    threshold = given.confidence_threshold if given.HasField("confidence_threshold") else _NOTHING
    folded = sizes.images if sizes.shared else sizes.images * len(sizes.labels)
    corners = write.reshape(boxes, (folded, sizes.boxes, 4))
    rows = write.reshape(scores, (folded, sizes.images * len(sizes.labels) // folded, sizes.boxes))
    limits = [
        write.constant([sizes.each], "most"),
        write.constant(np.array([given.nms_param.nms_threshold], np.float32), "overlap"),
        write.constant(np.array([threshold], np.float32), "threshold"),
    ]
    chosen = write.values("NonMaxSuppression", [corners.value, rows.value, *limits])[0]
    nothing = write.values("Expand", [write.scalar(_NOTHING, "nothing"), write.constant(rows.shape, "all")])[0]
    found = write.values("GatherND", [rows.value, chosen])[0]
    left = write.blob("ScatterND", [nothing, chosen, found], rows.shape)
    return write.reshape(left, scores.shape)


def _rows(write: Writer, scores: Blob, boxes: Blob, sizes: _Sizes) -> Blob:
    """The best of each image, back in the order of classes and scores, as rows; then only those that hold a box."""
    images, kept, labels = sizes.images, sizes.kept, len(sizes.labels)
    flat = write.reshape(scores, (images, labels * sizes.boxes))
    top = write.constant([kept], "kept")
    best, where = write.values("TopK", [flat.value, top], outputs=2, axis=1)
    count = write.constant(np.array(sizes.boxes, np.int64), "boxes")
    label = write.values("Div", [where, count])[0]
    # A label's place times the number of rows, plus the rank: ascending, that is the order of classes and scores.
    rank = write.constant(np.arange(kept, dtype=np.int64), "rank")
    keys = write.values("Add", [write.values("Mul", [label, top])[0], rank])[0]
    order = write.values("TopK", [keys, top], outputs=2, axis=1, largest=0)[1]
    best, where, label = (write.values("GatherElements", [v, order], axis=1)[0] for v in (best, where, label))
    index = write.values("Mod", [where, count])[0] if sizes.shared else where
    every = write.reshape(boxes, (images, boxes.shape[1] * sizes.boxes, 4))
    column, corners = write.constant([2], "axis"), write.constant([1, 1, 4], "corners")
    places = write.values("Expand", [write.values("Unsqueeze", [index, column])[0], corners])[0]
    corner = write.values("GatherElements", [every.value, places], axis=1)[0]
    names = write.values("Gather", [write.constant(np.array(sizes.labels, np.float32), "names"), label])[0]
    numbers = np.repeat(np.arange(images, dtype=np.float32)[:, None], kept, axis=1)
    parts = [write.values("Unsqueeze", [v, column])[0] for v in (write.constant(numbers, "images"), names, best)]
    rows = write.values("Concat", [*parts, corner], axis=2)[0]
    valid = write.values("Greater", [best, write.scalar(_NOTHING, "nothing")])[0]
    return _only(write, rows, valid, images, kept)


def _only(write: Writer, rows: ir.Value, valid: ir.Value, images: int, kept: int) -> Blob:
    flat = write.values("Reshape", [rows, write.constant([images * kept, _ROW], "rows")])[0]
    mask = write.values("Reshape", [valid, write.constant([images * kept], "count")])[0]
    found = write.values("Compress", [flat, mask], axis=0)[0]
    none = np.full((images, _ROW), -1, np.float32)
    none[:, 0] = np.arange(images)
    # What says that nothing was found stands behind, and is cut off where something was.
    padded = write.values("Concat", [found, write.constant(none, "none")], axis=0)[0]
    zero = write.constant([0], "zero")
    length = write.values("Shape", [found], start=0, end=1)[0]
    is_none = write.values("Cast", [write.values("Equal", [length, zero])[0]], to=ir.DataType.INT64)[0]
    fallback = write.values("Mul", [is_none, write.constant([images], "fallback")])[0]
    end = write.values("Add", [length, fallback])[0]
    cut = write.values("Slice", [padded, zero, end, zero])[0]
    # The true number of rows is only known when it runs: the shape here is the most there can be.
    return write.blob("Reshape", [cut, write.constant([1, 1, -1, _ROW], "detections")], (1, 1, images * kept, _ROW))
