"""N-grams of whole numbers are counted and weighed as ONNX Runtime does."""

import numpy as np
import pytest

from enginewright_builder.device.operators.layer import Declined

POOL = {
    "ngram_counts": [0, 4],
    "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 5])
@pytest.mark.parametrize("lengths", [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("shape", [(12,), (2, 6)])
def test_what_stands_in_the_pool_is_counted(agrees, mode, skips, lengths, shape):
    x = np.int32([1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]).reshape(shape)
    low, high = lengths
    agrees("TfIdfVectorizer", x, mode=mode, max_skip_count=skips, min_gram_length=low, max_gram_length=high,
           weights=[0.5, 2.0, 3.0, 1.0, 4.0, 0.25, 7.0], **POOL)  # fmt: skip


def test_text_is_declined(lowered):
    with pytest.raises(Declined, match="counts text"):
        lowered("TfIdfVectorizer", [np.int32([1])], [("float32", (7,))], mode="TF")
