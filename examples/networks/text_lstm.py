"""A text classifier: embedded words, an LSTM in both directions that knows each text's length, a dense layer."""

import numpy as np
from networks.weights import Weights, random

from enginewright_builder.network.definition import Network


def text_lstm(
    weights: Weights | None = None,
    *,
    batch: int | str = "batch",
    steps: int = 32,
    vocabulary: int = 5000,
    width: int = 64,
    hidden: int = 128,
    classes: int = 4,
) -> Network:
    """Words (batch, steps) int64 and lengths (batch) int32 to probabilities (batch, classes)."""
    weights = weights or random()
    network = Network("text")
    words = network.add_input("words", (batch, steps), "int64")
    lengths = network.add_input("lengths", (batch,), "int32")
    table = network.add_constant("embedding", weights("embedding", (vocabulary, width)))
    x = network.add_gather(table, words, name="embedded")
    x = network.add_shuffle(x, first_transpose=(1, 0, 2), name="time_first")
    lstm = network.add_rnn(
        x,
        "lstm",
        hidden,
        weights("lstm.kernel", (2, 4 * hidden, width)) / np.float32(2),
        weights("lstm.recurrence", (2, 4 * hidden, hidden)) / np.float32(2),
        weights("lstm.bias", (2 * 8 * hidden,)).reshape(2, -1),
        direction="bidirectional",
        lengths=lengths,
        name="lstm",
    )
    state = network.add_shuffle(lstm.state, first_transpose=(1, 0, 2), reshape=(0, 2 * hidden), name="state")
    kernel, bias = weights("classes.kernel", (classes, 2 * hidden)), weights("classes.bias", (classes,))
    scores = network.add_fully_connected(state, classes, kernel, bias, name="scores")
    network.mark_output(network.add_softmax(scores), "probabilities")
    return network
