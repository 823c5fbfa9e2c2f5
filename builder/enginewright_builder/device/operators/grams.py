"""TfIdfVectorizer over whole numbers: how often each n-gram of a pool stands in a row, and what that weighs."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.terms import call

_MOST = 256  # n-grams: each is written out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gram:
    """An n-gram, the column of the output that counts it, and its weight."""

    items: tuple[int, ...]
    column: int
    weight: float


def _grams(layer: Layer) -> list[_Gram]:
    """The pool in order of length; those that are too short or too long for what is asked are left out.

    `ngram_counts` says where in the pool the n-grams of each length begin.
    """
    pool = terms.integers(layer, "pool_int64s")
    if pool is None:
        raise Declined("it counts text")
    starts = [*(terms.integers(layer, "ngram_counts") or ()), len(pool)]
    columns = terms.integers(layer, "ngram_indexes") or ()
    weights = layer.attributes.get("weights") or [1.0] * len(columns)
    texts = [
        pool[at : at + length]
        for length, (start, end) in enumerate(itertools.pairwise(starts), 1)
        for at in range(start, end, length)
    ]
    low, high = (int(layer.attributes[name]) for name in ("min_gram_length", "max_gram_length"))
    return [
        _Gram(items=items, column=column, weight=float(weight))
        for items, column, weight in zip(texts, columns, weights, strict=True)
        if low <= len(items) <= high
    ]


def _count(layer: Layer, gram: _Gram, skips: int, number: int) -> Expression:
    """Over all places and all distances between neighbours; single items have one distance."""
    shape = terms.operand(layer, 0).shape
    extent, length = shape[-1], len(gram.items)
    place, skip = Index(f"p{number}"), Index(f"s{number}")
    distances = skips + 1 if length > 1 else 1
    row = [terms.index(0)] if len(shape) > 1 and shape[0] > 1 else [terms.number(0)] * (len(shape) - 1)

    def item(offset: int) -> Expression:
        at = terms.add(place, terms.multiply(offset, terms.add(skip, 1)))
        element = terms.load(layer, 0, [*row, at])
        return call("==", element, gram.items[offset])

    last = terms.add(place, terms.multiply(length - 1, terms.add(skip, 1)))
    same = terms.both(*(item(offset) for offset in range(length)))
    found = terms.select(call("<", last, extent), same, terms.number(False, "bool"))
    axes = [(f"s{number}", distances), (f"p{number}", extent)]
    return terms.reduction("sum", axes, terms.cast(found, "float32"))


def _vectorize(layer: Layer) -> tuple[Computation, ...]:
    """TF is the count, IDF the weight where there is any, TFIDF their product."""
    grams = _grams(layer)
    elementwise.refused(layer, not 0 < len(grams) <= _MOST, f"has {len(grams)} n-grams")
    mode = elementwise.word(layer, "mode", "TF")
    skips = int(layer.attributes.get("max_skip_count", 0))
    column = terms.index(len(terms.result(layer).shape) - 1)
    value: Expression = terms.number(0.0, "float32")
    for number, gram in enumerate(grams):
        count = _count(layer, gram, skips, number)
        if mode == "IDF":
            count = call("min", count, 1.0)
        weighed = count if mode == "TF" else call("*", count, gram.weight)
        value = terms.select(call("==", column, gram.column), weighed, value)
    return elementwise.only(layer, value)


LOWERINGS: Mapping[str, Lowering] = {"TfIdfVectorizer": _vectorize}
