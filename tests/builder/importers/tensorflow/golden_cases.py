"""What the goldens are of: each operation in the forms that frozen graphs have, over sizes that are odd."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from golden_networks import (
    BOXES,
    SCORES,
    Case,
    conditional,
    convolved_steps,
    counted_suppression,
    fused,
    in_frames,
    lengths,
    loop,
    network,
    nn,
    normalized,
    operation,
    raw,
    rows,
    switch,
    v1,
    weights,
)

IMAGE, IMAGES = (2, 9, 7, 3), (1, 6, 8, 4)
MIRRORED = [[0, 0], [1, 0], [2, 1], [1, 2]]
# name: (what it computes, shapes of its float32 inputs; an array where values matter)
CASES: Mapping[str, tuple[Case, tuple[Any, ...]]] = {
    "network": (network, ((2, 21, 19, 3),)),
    "switch": (switch, ((3, 4), np.array(False))),
    "conv2d_same": (lambda x: nn.conv2d(x, weights(3, 2, 3, 5), 1, "SAME"), (IMAGE,)),
    "conv2d_same_stride": (lambda x: nn.conv2d(x, weights(3, 3, 3, 5), 2, "SAME"), (IMAGE,)),
    "conv2d_valid_dilated": (lambda x: nn.conv2d(x, weights(3, 3, 3, 5), 1, "VALID", dilations=2), (IMAGE,)),
    "conv2d_same_dilated": (lambda x: nn.conv2d(x, weights(3, 3, 3, 5), 1, "SAME", dilations=2), (IMAGE,)),
    "conv2d_explicit": (
        lambda x: nn.conv2d(x, weights(3, 3, 3, 5), 2, [[0, 0], [2, 1], [0, 3], [0, 0]]),
        (IMAGE,),
    ),
    "conv3d": (lambda x: nn.conv3d(x, weights(2, 3, 3, 2, 4), [1, 1, 2, 2, 1], "SAME"), ((1, 5, 7, 6, 2),)),
    "depthwise_stride": (lambda x: nn.depthwise_conv2d(x, weights(3, 3, 3, 2), [1, 2, 2, 1], "SAME"), (IMAGE,)),
    "conv_transpose_same": (
        lambda x: nn.conv2d_transpose(x, weights(3, 3, 5, 3), [2, 18, 14, 5], 2, "SAME"),
        (IMAGE,),
    ),
    "conv_transpose_odd": (lambda x: nn.conv2d_transpose(x, weights(4, 4, 5, 3), [2, 17, 13, 5], 2, "SAME"), (IMAGE,)),
    "conv_transpose_valid": (
        lambda x: nn.conv2d_transpose(x, weights(3, 3, 5, 3), [2, 20, 15, 5], 2, "VALID"),
        (IMAGE,),
    ),
    "conv_transpose_free": (
        lambda x: nn.conv2d_transpose(
            x, weights(2, 2, 5, 3), tf.stack([tf.shape(x)[0], tf.shape(x)[1] * 2, tf.shape(x)[2] * 2, 5]), 2, "SAME"
        ),
        (IMAGE,),
    ),
    "conv_transpose_explicit": (
        lambda x: raw.Conv2DBackpropInput(
            input_sizes=[2, 18, 13, 5],
            filter=weights(3, 3, 5, 3),
            out_backprop=x,
            strides=[1, 2, 2, 1],
            padding="EXPLICIT",
            explicit_paddings=[0, 0, 0, 1, 2, 1, 0, 0],
        ),
        ((2, 9, 7, 3),),
    ),
    "conv_transpose_packed": (  # as Keras writes it where only the batch is free
        lambda x: [
            nn.conv2d_transpose(x, weights(3, 3, 4, 2), tf.stack([tf.shape(x)[0], 10, 12, 4]), 2, "VALID"),
            nn.conv2d_transpose(x, weights(3, 3, 4, 2), tf.stack([tf.shape(x)[0], 7, 10, 4]), 2, "SAME"),
            nn.conv2d_transpose(
                x,
                weights(2, 2, 4, 2),
                tf.stack([tf.shape(x)[0], tf.shape(x)[1] * 3, tf.shape(x)[2] * 3, 4]),
                3,
                "VALID",
            ),
        ],
        ((2, 4, 5, 2),),
    ),
    "conv3d_transpose": (
        lambda x: nn.conv3d_transpose(x, weights(3, 2, 3, 4, 2), [1, 6, 7, 8, 4], 2, "SAME"),
        ((1, 3, 4, 4, 2),),
    ),
    "atrous": (
        lambda x: tf.batch_to_space(
            nn.conv2d(tf.space_to_batch(x, [2, 2], [[1, 2], [0, 1]]), weights(2, 2, 3, 4), 1, "VALID"),
            [2, 2],
            [[0, 1], [1, 0]],
        ),
        (IMAGE,),
    ),
    "pools": (
        lambda x: [
            nn.avg_pool2d(x, 3, 2, "SAME"),
            nn.max_pool2d(x, [2, 3], 1, "SAME"),
            nn.max_pool2d(x, 3, 2, "VALID"),
        ],
        (IMAGE,),
    ),
    "pools3d": (lambda x: [nn.max_pool3d(x, 2, 2, "SAME"), nn.avg_pool3d(x, 2, 1, "SAME")], ((1, 5, 7, 6, 2),)),
    "lrn": (operation("LRN", depth_radius=2, bias=1.5, alpha=0.3, beta=0.7), ((1, 4, 3, 9),)),
    "activations": (
        lambda x: [nn.elu(x), nn.selu(x), nn.softplus(x), nn.softsign(x), nn.relu6(x * 5), tf.tanh(x), tf.sigmoid(x)],
        ((3, 7),),
    ),
    "functions": (
        lambda x: [tf.math.rsqrt(x), tf.math.log1p(x), tf.math.expm1(x), tf.square(x), tf.math.erf(x), tf.sign(x)],
        (np.linspace(0.1, 2.5, 14, dtype=np.float32).reshape(2, 7),),
    ),
    "elementary": (
        lambda x: [
            *(raw.Abs(x=x), raw.Neg(x=x), raw.Exp(x=x), raw.Log(x=raw.Abs(x=x)), raw.Sqrt(x=raw.Square(x=x))),
            *(raw.Reciprocal(x=x), raw.Inv(x=x), raw.Pow(x=raw.Abs(x=x), y=x), raw.AddN(inputs=[x, x, x])),
            *(raw.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.75), raw.Div(x=x, y=x + 3.0)),
            *(raw.IsNan(x=raw.Log(x=x)), raw.IsInf(x=x / raw.Relu(features=x)), raw.L2Loss(t=x)),
            *(raw.LogicalOr(x=x > 1, y=x < 0), raw.EuclideanNorm(input=x, axis=[1])),
        ],
        ((3, 7),),
    ),
    "trigonometry": (
        lambda x: [
            *(tf.sin(x), tf.cos(x), tf.tan(x), tf.asin(x), tf.acos(x), tf.atan(x), tf.sinh(x), tf.cosh(x)),
            *(tf.asinh(x), tf.acosh(x + 2.0), tf.atanh(x)),
        ],
        (np.linspace(-0.9, 0.9, 14, dtype=np.float32).reshape(2, 7),),
    ),
    "truth": (
        lambda x, y: [
            raw.LogicalAnd(x=x > 0, y=y > 0),
            raw.TruncateDiv(x=raw.Cast(x=x * 9, DstT=tf.int32), y=[2, -2, 3, -3, 4]),
        ],
        ((2, 5), (2, 5)),
    ),
    "older": (  # versions that today's TensorFlow no longer writes by itself
        lambda x, y: [
            raw.FusedBatchNorm(**normalized(x))[0],
            raw.FusedBatchNormV2(**normalized(x))[0],
            raw.BatchMatMul(x=x, y=y, adj_y=True),
            raw.BatchMatMulV3(x=x, y=y, Tout=tf.float32, adj_x=True),
            raw.Concat(concat_dim=2, values=[x, y]),
            raw.Gather(params=x, indices=[1, 0]),
            raw.Add(x=x, y=y),
            raw.BiasAddV1(value=x, bias=[1.0, 2.0, 3.0]),
        ],
        ((2, 4, 5, 3), (2, 4, 5, 3)),
    ),
    "handed_through": (
        lambda x: [
            raw.Neg(x=raw.StopGradient(input=x)),
            raw.Neg(x=raw.PreventGradient(input=x)),
            raw.Neg(x=raw.CheckNumerics(tensor=x, message="")),
            raw.Neg(x=raw.Snapshot(input=x)),
            *(raw.Neg(x=each) for each in raw.IdentityN(input=[x, x + 1.0])),
            x * v1.placeholder_with_default(tf.constant(3.0), [], "factor"),
        ],
        ((2, 3),),
    ),
    "sizes": (
        lambda x: [raw.Rank(input=x), raw.Size(input=x), raw.ZerosLike(x=x), raw.OnesLike(x=x)],
        ((3, 2, 4),),
    ),
    "norms_by_their_batch": (  # Keras's LayerNormalization: rows as channels of one picture
        lambda x: [
            raw.FusedBatchNormV3(**{**normalized(x), "mean": [], "variance": [], "is_training": True})[0],
            raw.FusedBatchNormV3(
                x=tf.reshape(x, [1, 60, 3, 1]),
                scale=tf.ones([60]),
                offset=tf.zeros([60]),
                mean=[],
                variance=[],
                epsilon=0.001,
                data_format="NCHW",
            )[0],
        ],
        ((3, 4, 5, 3),),
    ),
    "sums_of_exponentials": (
        lambda x: [tf.reduce_logsumexp(x * 50, 1), tf.tensor_scatter_nd_update(x, [[3], [0]], x[:2] + 1.0)],
        ((4, 5),),
    ),
    "bands": (
        lambda x: [
            tf.linalg.band_part(x, -1, 0),
            tf.linalg.band_part(x, 1, -1),
            tf.linalg.band_part(tf.cast(x * 9, tf.int32), 0, 2),
            tf.math.erfc(x),
        ],
        ((2, 4, 5),),
    ),
    "volume_norm": (
        lambda x: raw.FusedBatchNormV3(**normalized(x), data_format="NDHWC")[0],
        ((2, 3, 4, 5, 3),),
    ),
    "rounding": (
        lambda x: [tf.round(x), tf.floor(x), tf.math.ceil(x), tf.math.rint(x)],
        (np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4, 2.6], dtype=np.float32),),
    ),
    "arithmetic": (
        lambda x, y: [x + y, x - y, x * y, x / y, tf.maximum(x, y), tf.minimum(x, y), tf.math.squared_difference(x, y)],
        ((2, 3, 5), (3, 1)),
    ),
    "division": (
        lambda x, y: [operation("FloorMod")(x, y), operation("FloorDiv")(x, y), tf.math.divide_no_nan(x, y * 0)],
        (np.array([-7.5, -3, 3, 7.5], np.float32), np.array([2, -2, 2, -2], np.float32)),
    ),
    "whole_division": (
        lambda x, y: [operation("FloorMod")(x, y), operation("FloorDiv")(x, y)],
        (np.array([-7, -3, 3, 7, 8], np.int32), np.array([2, -2, 2, -2, 3], np.int32)),
    ),
    "comparisons": (
        lambda x, y: [x < y, x <= y, x > y, x >= y, tf.equal(x, y), tf.not_equal(x, y), tf.logical_not(x < y)],
        (np.array([1, 2, 3], np.float32), np.array([2, 2, 2], np.float32)),
    ),
    "select": (
        lambda x, y: [operation("Select")(x[:, 0] > 0, x, y), tf.where(x > 0, x, y), operation("Select")(x > 0, x, y)],
        ((4, 3), (4, 3)),
    ),
    "casts": (lambda x: [tf.cast(x * 3, tf.int32), tf.cast(x > 0, tf.float32)], ((3, 4),)),
    "matmul": (lambda x: [tf.matmul(x, weights(5, 4), transpose_a=True), tf.matmul(x, x, transpose_b=True)], ((5, 3),)),
    "batch_matmul": (
        lambda x, y: [tf.matmul(x, y, adjoint_b=True), tf.matmul(x, y, adjoint_a=True)],
        ((2, 3, 4, 4), (2, 3, 4, 4)),
    ),
    "reductions": (
        lambda x: [
            tf.reduce_sum(x, 1),
            tf.reduce_mean(x, [0, -1], keepdims=True),
            tf.reduce_max(x, [1, 2]),
            tf.reduce_min(x),
            tf.reduce_prod(x, -1),
            tf.reduce_all(x > -1, 2),
            tf.reduce_any(x > 1, 0),
        ],
        ((2, 3, 4),),
    ),
    "reduced_images": (
        lambda x: (
            [
                tf.reduce_mean(nn.conv2d(x, weights(1, 1, 3, 4), 1, "SAME"), axis, keepdims=keep)
                for axis, keep in (([1, 2], False), ([1, 2], True), ([3], True), ([1], False), ([3], False), ([], True))
            ]
            + [tf.reduce_all(nn.conv2d(x, weights(1, 1, 3, 4), 1, "SAME") > -1.5, [1, 2], keepdims=True)]
        ),
        (IMAGE,),
    ),
    "arguments": (lambda x: [tf.argmax(x, 1), tf.argmin(x, -1, output_type=tf.int32)], ((3, 5, 4),)),
    "top_k": (lambda x: list(tf.math.top_k(x, 3)), ((2, 7),)),
    "cumsum": (lambda x: [tf.cumsum(x, 1), tf.cumsum(x, 0, exclusive=True, reverse=True)], ((3, 4),)),
    "softmax": (lambda x: [nn.softmax(x), nn.log_softmax(x)], ((2, 3, 5),)),
    "softmax_of_images": (lambda x: nn.softmax(nn.conv2d(x, weights(1, 1, 3, 4), 1, "SAME")), (IMAGE,)),
    "slices": (
        lambda x: [
            x[1, 2:, ::2],
            x[..., 1],
            x[:, tf.newaxis, 1:3, -1],
            x[::-1, ..., 2:0:-1],
            x[-1],
            x[0, ..., tf.newaxis],
            x[:, 1, ..., -2:],
        ],
        ((3, 4, 5),),
    ),
    "free_slices": (lambda x: [x[: tf.shape(x)[1]], x[tf.shape(x)[0] - 2], tf.slice(x, [1, 0], [-1, 2])], ((5, 3),)),
    "reshapes": (
        lambda x: [
            tf.reshape(x, [-1, 6]),
            tf.reshape(x, tf.stack([tf.shape(x)[0], -1])),
            tf.squeeze(x, [1]),
            tf.expand_dims(x, 2),
            tf.expand_dims(x, -1),
            tf.transpose(x, [2, 0, 1, 3]),
        ],
        ((2, 1, 4, 3),),
    ),
    "stacks": (
        lambda x, y: [tf.stack([x, y], 1), *tf.unstack(x, axis=1), tf.concat([x, y, x], 0), tf.concat([x, y], -1)],
        ((2, 3), (2, 3)),
    ),
    "splits": (lambda x: [*tf.split(x, 2, 1), *tf.split(x, [1, 2, 3], 1), *tf.split(x, [1, -1], 1)], ((3, 6),)),
    "split_images": (lambda x: tf.split(nn.conv2d(x, weights(1, 1, 3, 4), 1, "SAME"), 2, 3), (IMAGE,)),
    "pads": (
        lambda x: [
            tf.pad(x, [[1, 0], [2, 3]]),
            tf.pad(x, [[1, 1], [2, 0]], constant_values=7),
            tf.pad(x, [[1, 2], [3, 0]], "REFLECT"),
        ],
        ((3, 4),),
    ),
    "padded_images": (
        lambda x: nn.conv2d(
            tf.pad(nn.conv2d(x, weights(1, 1, 3, 4), 1, "SAME"), [[0, 0], [1, 2], [3, 0], [0, 0]]),
            weights(3, 3, 4, 2),
            2,
            "VALID",
        ),
        (IMAGE,),
    ),
    "tiles": (
        lambda x: [tf.tile(x, [2, 3]), tf.fill([2, 2], x[0, 0]), tf.broadcast_to(x, [4, 2, 3]), tf.reverse(x, [1])],
        ((2, 3),),
    ),
    "shapes": (
        lambda x: [tf.shape(x), tf.size(x), tf.rank(x), tf.range(tf.shape(x)[0]), tf.zeros_like(x), tf.ones_like(x)],
        ((3, 2),),
    ),
    "gathers": (
        lambda x, i: [
            tf.gather(x, i),
            tf.gather(x, i, axis=1),
            tf.gather_nd(x, tf.stack([i, i], -1)),
            tf.gather(x, tf.stack([i, i, i, i]), axis=1, batch_dims=1),
        ],
        ((4, 5), np.array([3, 0, 2], np.int32)),
    ),
    "one_hot": (
        lambda i: [tf.one_hot(i, 4), tf.one_hot(i, 4, 5.0, -1.0, axis=0)],
        (np.array([[1, 3], [-1, 0]], np.int32),),
    ),
    "where": (lambda x: [tf.where(x > 0), tf.scatter_nd([[1], [3]], x[:2], [5, 3])], ((3, 3),)),
    "suppression": (
        lambda boxes, scores: tf.image.non_max_suppression(boxes, scores, 3, 0.4, 0.1),
        (BOXES, SCORES),
    ),
    "old_suppression": (
        lambda boxes, scores: raw.NonMaxSuppressionV2(boxes=boxes, scores=scores, max_output_size=4, iou_threshold=0.4),
        (BOXES, SCORES),
    ),
    "counted_suppression": (counted_suppression, (BOXES, SCORES)),
    "mirrors": (
        lambda x: [
            tf.pad(x, [[1, 3], [0, 2], [4, 0]], "SYMMETRIC"),
            tf.pad(nn.conv2d(x[:, tf.newaxis], weights(1, 1, 4, 2), 1, "SAME"), MIRRORED, "SYMMETRIC"),
            tf.pad(nn.conv2d(x[:, tf.newaxis], weights(1, 1, 4, 2), 1, "SAME"), MIRRORED, "CONSTANT"),
        ],
        ((3, 2, 4),),
    ),
    "bicubic": (
        lambda x: [
            operation("ResizeBicubic")(x, [11, 5]),
            operation("ResizeBicubic", align_corners=True)(x, [13, 9]),
            operation("ResizeBicubic", half_pixel_centers=True)(x, [13, 5]),
            operation("ResizeBicubic", half_pixel_centers=True)(tf.cast(x * 50, tf.int32), [1, 31]),
        ],
        (IMAGES,),
    ),
    "lstm_cell": (
        lambda x, cs, h: [
            *operation("LSTMBlockCell", cell_clip=0.7)(x, cs, h, *fused(3, 5)),
            *operation("LSTMBlockCell", cell_clip=-1.0, forget_bias=0.25, use_peephole=True)(x, cs, h, *fused(3, 5)),
        ],
        ((2, 3), (2, 5), (2, 5)),
    ),
    "lstm_block": (
        lambda x, cs, h, steps: [
            *operation("BlockLSTM", cell_clip=0.7)(4, x, cs, h, *fused(3, 5)),
            *operation("BlockLSTM", use_peephole=True)(steps, x, cs, h, *fused(3, 5)),
            *operation("BlockLSTMV2", use_peephole=True)(4, x, cs, h, *fused(3, 5)),
        ],
        ((4, 2, 3), (2, 5), (2, 5), np.array(2, np.int64)),
    ),
    "reverse_sequence": (
        lambda x: tf.reverse_sequence(x, [2, 4, 1], seq_axis=1, batch_axis=0),
        ((3, 4, 2),),
    ),
    "resize": (
        lambda x: [
            v1.image.resize_bilinear(x, [11, 5]),
            v1.image.resize_bilinear(x, [13, 9], align_corners=True),
            v1.image.resize_bilinear(x, [12, 16], half_pixel_centers=True),
            v1.image.resize_nearest_neighbor(x, [11, 5]),
            v1.image.resize_nearest_neighbor(x, [13, 9], align_corners=True),
            v1.image.resize_nearest_neighbor(x, [9, 13], half_pixel_centers=True),
        ],
        (IMAGES,),
    ),
    "depth_and_space": (lambda x: [nn.depth_to_space(x, 2), nn.space_to_depth(x, 2)], (IMAGES,)),
    "einsum": (lambda x, y: tf.einsum("bij,bjk->bik", x, y), ((2, 3, 4), (2, 4, 5))),
    "crops": (
        lambda x, boxes: [
            tf.image.crop_and_resize(x, boxes, [1, 0, 1], [3, 4], extrapolation_value=-1.5),
            tf.image.crop_and_resize(x, boxes, [0, 0, 1], [1, 2], method="nearest"),
        ],
        (IMAGE, np.array([[0.1, 0.2, 0.8, 0.95], [0.9, 0.7, 0.3, 0.1], [-0.3, 0.0, 0.6, 1.2]], np.float32)),
    ),
    "crops_at_the_border": (  # whether the last sample lies inside of the image is up to the last bit of a sum
        lambda x, boxes: tf.image.crop_and_resize(x, boxes, [0] * 48, [14, 14], extrapolation_value=-9.0),
        (
            np.arange(15 * 20, dtype=np.float32).reshape(1, 15, 20, 1),
            np.array([[i / 67, i / 59, 1, 1] for i in range(48)], np.float32),
        ),
    ),
    "loop": (loop, (np.array([[0.5, 0.25], [1.5, -2.0]], np.float32),)),
    "loop_in_frames": (in_frames(loop), (np.array([[0.5, 0.25], [1.5, -2.0]], np.float32),)),
    "loop_not_entered": (in_frames(loop), (np.array([[50.0, 0.25], [1.5, -2.0]], np.float32),)),
    "convolved_steps": (convolved_steps, ((1, 5, 4, 2),)),
    "convolved_steps_in_frames": (in_frames(convolved_steps), ((1, 5, 4, 2),)),
    "rows": (rows, ((4, 3),)),
    "lengths": (lengths, ((4, 3),)),
    "lengths_in_frames": (in_frames(lengths), ((4, 3),)),
    "rows_in_frames": (in_frames(rows), ((4, 3),)),
    "conditional_true": (conditional, (np.array([[3, -1, 0], [1, 1, -2]], np.float32),)),
    "conditional_false": (conditional, (np.array([[-3, -1, 0], [1, 1, -2]], np.float32),)),
    "conditional_in_frames_true": (in_frames(conditional), (np.array([[3, -1, 0], [1, 1, -2]], np.float32),)),
    "conditional_in_frames_false": (in_frames(conditional), (np.array([[-3, -1, 0], [1, 1, -2]], np.float32),)),
    "conditional_in_frames_deep": (in_frames(conditional), (np.array([[-300, -1, 0], [1, 1, -2]], np.float32),)),
    "fake_quantization": (
        lambda x: [
            tf.quantization.fake_quant_with_min_max_args(x, -0.7, 1.9, 8),
            tf.quantization.fake_quant_with_min_max_vars(x, -1.3, 0.6, 4, narrow_range=True),
            tf.quantization.fake_quant_with_min_max_vars_per_channel(x, [-1.0, 0.0, -0.3], [1.0, 0.5, 2.0]),
        ],
        ((5, 4, 4, 3),),
    ),
    "dequantized": (
        lambda x, y: [
            tf.quantization.dequantize(tf.bitcast(x, tf.quint8), -1.2, 3.4),
            tf.quantization.dequantize(tf.bitcast(y, tf.qint8), -2.0, 1.5, "SCALED"),
            tf.quantization.dequantize(tf.bitcast(y, tf.qint8), -2.0, 1.5, "MIN_COMBINED"),
            tf.quantization.dequantize(tf.bitcast(x, tf.quint8), -0.7, 3.0, "MIN_FIRST"),
        ],
        (np.array([[0, 1, 7], [128, 254, 255]], np.uint8), np.array([[-128, -3, 0], [5, 100, 127]], np.int8)),
    ),
    "channels_first": (
        lambda x: tf.raw_ops.BiasAdd(
            value=tf.transpose(nn.conv2d(tf.transpose(x, [0, 2, 3, 1]), weights(3, 3, 3, 4), 1, "SAME"), [0, 3, 1, 2]),
            bias=weights(4),
            data_format="NCHW",
        ),
        ((2, 3, 9, 7),),
    ),
}
