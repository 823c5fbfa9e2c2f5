"""Losses over classes: the target picks one logarithm of a probability, weights scale it, and all are reduced."""

from collections.abc import Callable, Mapping

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.terms import call

LogProbability = Callable[[list[Expression]], Expression]


def _loss(layer: Layer, log_probability: LogProbability) -> Expression:
    """-w[t] * log_probability[n, t, ...] of each place, its sum, or that over the sum of the weights w[t]."""
    shape = terms.operand(layer, 1).shape
    reduction = elementwise.word(layer, "reduction", "mean")
    if reduction == "none":
        value, _ = _one(layer, terms.indices(shape), log_probability)
        return value
    names = [(f"t{axis}", extent) for axis, extent in enumerate(shape)]
    value, _ = _one(layer, [Index(name) for name, _ in names], log_probability)
    total = terms.reduction("sum", names, value)
    if reduction == "sum":
        return total
    others = [(f"u{axis}", extent) for axis, extent in enumerate(shape)]
    _, weight = _one(layer, [Index(name) for name, _ in others], log_probability)
    return call("/", total, terms.reduction("sum", others, weight))


def _one(layer: Layer, at: list[Expression], log_probability: LogProbability) -> tuple[Expression, Expression]:
    """The loss and the weight of one place, both 0 where the target is to be ignored."""
    classes = terms.operand(layer, 0).shape[1]
    given = terms.load(layer, 1, at)
    ignored = layer.attributes.get("ignore_index")
    label = terms.cast(given, "int32")
    dtype = terms.computed(terms.operand(layer, 0).dtype)
    guard = terms.within(label, classes)
    if ignored is not None:
        guard = terms.both(guard, call("!=", given, int(ignored)))
    weighted = terms.optional(layer, 2) is not None
    weight = terms.load(layer, 2, [label]) if weighted else terms.number(1.0, dtype)
    value = call("*", call("neg", log_probability([at[0], label, *at[1:]])), weight)
    zero = terms.number(0.0, dtype)
    return terms.select(guard, value, zero), terms.select(guard, weight, zero)


def _negative_log_likelihood(layer: Layer) -> tuple[Computation, ...]:
    return elementwise.only(layer, _loss(layer, lambda at: terms.load(layer, 0, at)))


def _softmax_cross_entropy(layer: Layer) -> tuple[Computation, ...]:
    """The same of the log-softmax over the classes, which may be an output too."""
    classes = terms.operand(layer, 0).shape[1]
    calls = iter(range(1000))

    def log_softmax(at: list[Expression]) -> Expression:
        number = next(calls)  # each use folds over variables of its own
        places = {tag: [at[0], Index(f"{tag}{number}"), *at[2:]] for tag in ("m", "s")}
        greatest = terms.reduction("max", [(f"m{number}", classes)], terms.load(layer, 0, places["m"]))
        exponential = call("exp", call("-", terms.load(layer, 0, places["s"]), greatest))
        total = terms.reduction("sum", [(f"s{number}", classes)], exponential)
        return call("-", call("-", terms.load(layer, 0, at), greatest), call("log", total))

    return elementwise.present(
        layer,
        lambda: _loss(layer, log_softmax),
        lambda: log_softmax(terms.indices(terms.operand(layer, 0).shape)),
    )


LOWERINGS: Mapping[str, Lowering] = {
    "NegativeLogLikelihoodLoss": _negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": _softmax_cross_entropy,
}
