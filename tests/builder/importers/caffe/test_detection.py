"""DetectionOutput against Caffe's own loops in NumPy, and against OpenCV where that reads the same."""

import cv2
import numpy as np
import pytest
from caffe_files import header, layer, random

from enginewright_builder.importers.from_caffe import from_caffe
from enginewright_runtime.errors import ModelError

BOXES, CLASSES = 40, 4
CENTRES = np.random.default_rng(3).uniform(0.2, 0.8, (BOXES, 2))
SIZES = np.random.default_rng(4).uniform(0.1, 0.3, (BOXES, 2))
CORNERS = np.concatenate([CENTRES - SIZES / 2, CENTRES + SIZES / 2], axis=1)
PRIORS = np.stack([CORNERS.reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], BOXES)])[None].astype(np.float32)


def feeds(images=2, groups=1):
    scores = np.random.default_rng(5).dirichlet(np.ones(CLASSES), (images, BOXES)).astype(np.float32)
    places = random(images, BOXES * groups * 4)
    return {"x": places, "x1": scores.reshape(images, -1), "x2": PRIORS}


def text(parameters, given):
    parameters = f"detection_output_param {{ num_classes: {CLASSES} {parameters} }}"
    return header(*(array.shape for array in given.values())) + layer("DetectionOutput", parameters, bottoms="x x1 x2")


def decoded(code, deltas, encoded):
    low, high = CORNERS[:, :2], CORNERS[:, 2:]
    moved = deltas if encoded else deltas * [0.1, 0.1, 0.2, 0.2]
    if code == "CORNER":
        return CORNERS + moved
    size = high - low
    if code == "CORNER_SIZE":
        return CORNERS + moved * np.tile(size, 2)
    centre = moved[:, :2] * size + (low + high) / 2
    reach = np.exp(moved[:, 2:]) * size / 2
    return np.concatenate([centre - reach, centre + reach], axis=1)


def overlap(a, b):
    inner = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)


def thinned(boxes, scores, threshold, limit, top):
    order = [index for index in np.argsort(-scores, kind="stable") if scores[index] > threshold][:top]
    kept = []
    for index in order:
        if all(overlap(boxes[index], boxes[other]) <= limit for other in kept):
            kept.append(index)
    return kept


def expected(
    given, *, code="CORNER", encoded=False, shared=True, threshold=0.2, limit=0.3, top=None, keep=None, none=0
):
    rows = []
    images = len(given["x"])
    for image in range(images):
        deltas = given["x"][image].reshape(BOXES, -1, 4)
        scores = given["x1"][image].reshape(BOXES, CLASSES).T
        found = []
        for label in range(CLASSES):
            if label != none:
                boxes = decoded(code, deltas[:, 0 if shared else label], encoded)
                for index in thinned(boxes, scores[label], threshold, limit, top):
                    found.append((label, scores[label][index], *boxes[index]))
        best = sorted(found, key=lambda row: -row[1])[:keep]
        rows += [(image, *row) for row in sorted(best, key=lambda row: (row[0], -row[1]))]
    return np.array(rows or [(image, *[-1] * 6) for image in range(images)], np.float32)


CASES = {
    "corners": ("confidence_threshold: 0.2", {}),
    "centres": ("confidence_threshold: 0.2 code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    "corners by size": ("confidence_threshold: 0.2 code_type: CORNER_SIZE", {"code": "CORNER_SIZE"}),
    "variance in the target": (
        "confidence_threshold: 0.2 code_type: CENTER_SIZE variance_encoded_in_target: true",
        {"code": "CENTER_SIZE", "encoded": True},
    ),
    "a place for each class": ("confidence_threshold: 0.2 share_location: false", {"shared": False}),
    "the best of a class": ("confidence_threshold: 0.2 nms_param { top_k: 5 }", {"top": 5}),
    "the best of an image": ("confidence_threshold: 0.2 keep_top_k: 7", {"keep": 7}),
    "both, with another overlap": (
        "confidence_threshold: 0.1 keep_top_k: 7 nms_param { top_k: 9 nms_threshold: 0.6 }",
        {"threshold": 0.1, "keep": 7, "top": 9, "limit": 0.6},
    ),
    "another background": ("confidence_threshold: 0.2 background_label_id: 2", {"none": 2}),
    "no background": ("confidence_threshold: 0.2 background_label_id: -1", {"none": None}),
    "no threshold": ("keep_top_k: 9", {"threshold": -np.inf, "keep": 9}),
    "nothing found": ("confidence_threshold: 0.999999", {"threshold": 0.999999}),
}


@pytest.mark.parametrize("name", CASES)
def test_detections_are_those_of_caffes_loops(imported, name):
    parameters, options = CASES[name]
    given = feeds(groups=1 if options.get("shared", True) else CLASSES)
    got = imported(text(parameters, given), feeds=given)["y"]
    wanted = expected(given, **options)
    assert got.shape == (1, 1, *wanted.shape)
    np.testing.assert_allclose(got[0, 0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
def test_detections_are_opencvs(save, imported, code):
    given = feeds(images=1)
    parameters = "share_location: true background_label_id: 0 confidence_threshold: 0.2 keep_top_k: 20"
    written = text(f"{parameters} nms_param {{ top_k: 30 nms_threshold: 0.4 }} code_type: {code}", given)
    got = imported(written, feeds=given)["y"][0, 0]
    net = cv2.dnn.readNetFromCaffe(*map(str, save(written)))
    for name, array in given.items():
        net.setInput(array, name)
    theirs = net.forward("y")[0, 0]
    assert len(got) > 5
    # OpenCV orders them by their scores alone.
    np.testing.assert_allclose(got[np.argsort(-got[:, 2])], theirs[: len(got)], rtol=1e-4, atol=1e-5)
    assert not theirs[len(got) :].any()  # OpenCV fills up with zeros


REFUSED = {
    "nms_param { eta: 0.5 }": "its threshold shrinks as it goes",
    "normalized_bbox: false": "its boxes are in pixels",
    "keep_top_k: 0": "it keeps no box",
    "share_location: false": "its blobs have the shapes",
}


@pytest.mark.parametrize("parameters", REFUSED)
def test_what_is_not_built_is_refused(save, parameters):

    with pytest.raises(ModelError, match=REFUSED[parameters]):
        from_caffe(*save(text(parameters, feeds())))
