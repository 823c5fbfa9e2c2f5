"""What the goldens compute that takes more than a line: small networks, loops and conditionals, Keras's layers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

v1, nn, raw = tf.compat.v1, tf.nn, tf.raw_ops
RANDOM = np.random.default_rng(20261128)
Case = Callable[..., Any]


def weights(*shape: int) -> Any:
    return tf.constant(RANDOM.standard_normal(shape).astype(np.float32) * 0.3)


def positive(*shape: int) -> Any:
    return tf.constant(RANDOM.random(shape).astype(np.float32) + 0.5)


def network(x: Any) -> Any:
    """A small network as Keras freezes one: no transposes may be left inside."""
    y = nn.conv2d(x, weights(3, 3, 3, 8), strides=2, padding="SAME")
    y = nn.bias_add(y, weights(8))
    y = v1.nn.fused_batch_norm(y, positive(8), weights(8), weights(8), positive(8), is_training=False)[0]
    y = nn.relu6(y)
    z = nn.depthwise_conv2d(y, weights(3, 3, 8, 2), strides=[1, 1, 1, 1], padding="SAME")
    y = tf.concat([z, nn.leaky_relu(y, 0.1)], 3) * weights(24) + 0.5
    y = nn.max_pool2d(y, 2, 2, "VALID")
    y = tf.reduce_mean(y, [1, 2])
    return nn.softmax(tf.matmul(y, weights(24, 5)) + weights(5))


def switch(x: Any, training: Any) -> Any:
    """A conditional as TensorFlow 1 writes it, on a placeholder that says whether the model trains."""
    v1.disable_control_flow_v2()
    try:
        return v1.cond(training, lambda: x * tf.random.uniform(tf.shape(x)), lambda: nn.relu(x)) + 1.0
    finally:
        v1.enable_control_flow_v2()


def in_frames(compute: Case) -> Case:
    """With loops and conditionals as TensorFlow 1 writes them: frames, switches and merges."""

    def case(*inputs: Any) -> Any:
        v1.disable_control_flow_v2()
        try:
            return compute(*inputs)
        finally:
            v1.enable_control_flow_v2()

    return case


def loop(x: Any) -> Any:
    """Two states, one of which decides when it ends, and a loop within."""

    def inner(i: Any, y: Any) -> Any:
        return i + 1, y * 1.1 + tf.cast(i, tf.float32)

    def body(n: Any, y: Any) -> Any:
        return n * 2.0, tf.while_loop(lambda i, _: i < 3, inner, [0, y])[1] - n

    return tf.while_loop(lambda n, _: n < 20.0, body, [tf.reduce_sum(x[0]), x])


def rows(x: Any) -> Any:
    """map_fn reads one array of tensors, row by row, and writes two."""
    return tf.map_fn(lambda row: (row * 2.0, tf.reduce_sum(row)), x, fn_output_signature=(tf.float32, tf.float32))


def lengths(x: Any) -> Any:
    """How many rows an array of tensors has."""
    rows = tf.TensorArray(tf.float32, tf.shape(x)[0], dynamic_size=True).unstack(x)
    return rows.size(), rows.stack()


def convolved_steps(x: Any) -> Any:
    """As Keras's ConvLSTM2D: a loop cuts its weights into one kernel a gate."""
    kernels = weights(3, 3, 2, 8)

    def body(step: Any, y: Any) -> Any:
        gates = [nn.conv2d(y, kernel, 1, "SAME") for kernel in tf.split(kernels, 4, 3)]
        return step + 1, tf.sigmoid(gates[0]) * tf.tanh(gates[1]) + gates[2] * gates[3]

    return tf.while_loop(lambda step, _: step < 3, body, [0, x])[1]


def conditional(x: Any) -> Any:
    """Branches of other shapes, one within the other, and a constant that is a branch by itself."""
    total = tf.reduce_sum(x)

    def negative() -> Any:
        return tf.cond(total < -100.0, lambda: tf.constant([[7.0, 7.0, 7.0]]), lambda: x[:1] * 3.0)

    y = tf.cond(total > 0.0, lambda: nn.relu(x), negative)
    return y + 1.0, tf.cond(total > 0.0, lambda: 1.0, lambda: total)


def recurrent(layer: Callable[..., Any], *, lowered: bool = True, **options: Any) -> Callable[[], Any]:
    """A Keras layer of 5 units, frozen; `lowered` writes its loop as frames, otherwise it is a While of functions."""

    def freeze() -> Any:
        model = layer(5, **options)
        model.build((None, 4, 3))
        model.set_weights([RANDOM.standard_normal(each.shape).astype(np.float32) * 0.4 for each in model.get_weights()])
        signature = [tf.TensorSpec([None, 4, 3], tf.float32, name="x0")]
        function = tf.function(lambda x0: tf.identity(model(x0), "y0"), input_signature=signature)
        return convert_variables_to_constants_v2(function.get_concrete_function(), lower_control_flow=lowered)

    return freeze


# Keras layers: name and how to freeze it; the input is x0 [2, 4, 3].
FROZEN: Mapping[str, Callable[[], Any]] = {
    "lstm": recurrent(tf_keras.layers.LSTM, return_sequences=True),
    "lstm_functional": recurrent(tf_keras.layers.LSTM, lowered=False),
    "lstm_unrolled": recurrent(tf_keras.layers.LSTM, unroll=True),
    "lstm_backwards": recurrent(tf_keras.layers.LSTM, return_sequences=True, go_backwards=True, activation="relu"),
    "gru": recurrent(tf_keras.layers.GRU, return_sequences=True),
    "gru_functional": recurrent(tf_keras.layers.GRU, lowered=False, reset_after=False),
    "gru_unrolled": recurrent(tf_keras.layers.GRU, unroll=True),
    "simple_rnn": recurrent(tf_keras.layers.SimpleRNN),
}


def counted_suppression(boxes: Any, scores: Any) -> Any:
    """V4 and V5: with how many there are, with their scores, with zeros behind and without."""
    given = {"boxes": boxes, "scores": scores, "max_output_size": 4, "iou_threshold": 0.4, "score_threshold": 0.1}
    made = [
        getattr(tf.raw_ops, f"NonMaxSuppressionV{version}")(**given, pad_to_max_output_size=pads, **more)
        for version, more in ((4, {}), (5, {"soft_nms_sigma": 0.0}))
        for pads in (True, False)
    ]
    return [output for outputs in made for output in outputs]


def normalized(x: Any) -> dict[str, Any]:
    """The arguments of a fused batch norm of three channels, last."""
    given = {"x": x, "scale": positive(3), "offset": weights(3), "mean": weights(3), "variance": positive(3)}
    return {**given, "epsilon": 0.01, "is_training": False}


def fused(inputs: int, units: int) -> list[Any]:
    """The weights of TensorFlow 1's fused LSTM: w, wci, wcf, wco, b."""
    return [weights(inputs + units, 4 * units), weights(units), weights(units), weights(units), weights(4 * units)]


def operation(name: str, **attributes: Any) -> Case:
    return lambda *inputs: getattr(tf.raw_ops, name)(**dict(zip(ARGUMENTS[name], inputs, strict=True)), **attributes)


STATES = ("x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b")
ARGUMENTS = {
    "BlockLSTM": ("seq_len_max", *STATES),
    "BlockLSTMV2": ("seq_len_max", *STATES),
    "FloorDiv": ("x", "y"),
    "FloorMod": ("x", "y"),
    "LRN": ("input",),
    "LSTMBlockCell": STATES,
    "ResizeBicubic": ("images", "size"),
    "Select": ("condition", "x", "y"),
}
BOXES = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 2, 1, 2.9], [5, 5, 6, 6]], np.float32)
SCORES = np.array([0.9, 0.8, 0.3, 0.7, 0.05], np.float32)
