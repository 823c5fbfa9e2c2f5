"""Matrix products as plain sums: right for every type and shape, and slow; the tactics for products are elsewhere."""

from collections.abc import Callable, Mapping, Sequence

from enginewright_builder.device.expression import Computation, Expression, Index
from enginewright_builder.device.operators import elementwise, terms
from enginewright_builder.device.operators.elementwise import flag, real
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.quantization import quantized
from enginewright_builder.device.operators.terms import call


def _as_is(element: Expression, _place: Sequence[Expression]) -> Expression:
    return element


Element = Callable[[Expression, Sequence[Expression]], Expression]


def _product(layer: Layer, a: int, b: int, *, left: Element = _as_is, right: Element = _as_is) -> Expression:
    """The sum over k of left(a[..., m, k]) * right(b[..., k, n]), with NumPy's rules for ranks (numpy.matmul)."""
    a_shape, b_shape = terms.operand(layer, a).shape, terms.operand(layer, b).shape
    output = terms.indices(terms.result(layer).shape)
    k = Index("k")
    column = [output.pop()] if len(b_shape) > 1 else []
    row = [output.pop()] if len(a_shape) > 1 else []
    a_at = [*output[max(0, len(output) - len(a_shape) + 2) :], *row, k] if row else [k]
    b_at = [*output[max(0, len(output) - len(b_shape) + 2) :], k, *column] if column else [k]
    one = left(terms.load(layer, a, a_at), a_at)
    other = right(terms.load(layer, b, b_at), b_at)
    return terms.reduction("sum", [("k", a_shape[-1])], call("*", one, other))


def _matmul(layer: Layer) -> tuple[Computation, ...]:
    return elementwise.only(layer, _product(layer, 0, 1))


def _gemm(layer: Layer) -> tuple[Computation, ...]:
    """alpha * op(a) op(b) + beta * c, in floating point wherever a factor is not 1."""
    row, column = terms.indices(terms.result(layer).shape)
    k = Index("k")
    transposed = flag(layer, "transA")
    a = terms.load(layer, 0, [k, row] if transposed else [row, k])
    b = terms.load(layer, 1, [column, k] if flag(layer, "transB") else [k, column])
    extent = terms.operand(layer, 0).shape[0 if transposed else 1]
    total = _scaled(terms.reduction("sum", [("k", extent)], call("*", a, b)), real(layer, "alpha", 1.0))
    if terms.optional(layer, 2) is not None:
        c = _scaled(terms.broadcast(layer, 2, [row, column]), real(layer, "beta", 1.0))
        total = call("+", total, terms.cast(c, terms.dtype_of(total)))
    return elementwise.only(layer, total)


def _scaled(term: Expression, factor: float) -> Expression:
    if factor == 1.0:
        return term
    wide = term if terms.is_float(terms.dtype_of(term)) else terms.cast(term, "float64")
    return call("*", wide, factor)


def _shifted(layer: Layer, position: int, axis: int) -> Element:
    """The element less its zero point, which is one for all or one for each place along `axis` (from the back)."""

    def shifted(element: Expression, at: Sequence[Expression]) -> Expression:
        element = terms.cast(element, "int32")
        zero = terms.optional(layer, position)
        if zero is None:
            return element
        return call("-", element, terms.cast(_along(layer, position, at, axis), "int32"))

    return shifted


def _along(layer: Layer, position: int, at: Sequence[Expression], axis: int) -> Expression:
    shape = terms.operand(layer, position).shape
    if len(shape) == 1 and shape[0] > 1:
        return terms.load(layer, position, [at[axis]])
    if len(shape) > 1:
        return terms.load(layer, position, at[len(at) - len(shape) :])
    return terms.load(layer, position, [0] * len(shape))


def _integer(layer: Layer) -> tuple[Computation, ...]:
    left, right = _shifted(layer, 2, -2), _shifted(layer, 3, -1)
    return elementwise.only(layer, _product(layer, 0, 1, left=left, right=right))


def _quantized(layer: Layer) -> tuple[Computation, ...]:
    """Inputs a, its scale and zero point, b, its scale and zero point, the output's scale and zero point."""
    output = terms.result(layer)
    total = _product(layer, 0, 3, left=_shifted(layer, 2, -2), right=_shifted(layer, 5, -1))
    at = terms.indices(output.shape)
    scales = [terms.cast(_along(layer, n, at, axis), "float32") for n, axis in ((1, -2), (4, -1), (6, -2))]
    real_total = call("*", terms.cast(total, "float32"), call("/", call("*", scales[0], scales[1]), scales[2]))
    return elementwise.only(layer, quantized(real_total, _along(layer, 7, at, -2), output.dtype))


def _einsum(layer: Layer) -> tuple[Computation, ...]:
    """The sum over all labels that the output does not have. An ellipsis stands for dimensions that broadcast."""
    inputs, output = _labels(layer)
    places: dict[str, Expression] = {
        label: place for label, place in zip(output, terms.indices(terms.result(layer).shape), strict=True)
    }
    extents: dict[str, int] = {}
    for position, labels in enumerate(inputs):
        for label, extent in zip(labels, terms.operand(layer, position).shape, strict=True):
            extents[label] = max(extents.get(label, 1), extent)
    summed = [label for label in extents if label not in places]
    names = {label: f"e{number}" for number, label in enumerate(summed)}
    places |= {label: Index(name) for label, name in names.items()}
    body: Expression | None = None
    for position, labels in enumerate(inputs):
        element = terms.load(layer, position, [places[label] for label in labels])
        body = element if body is None else call("*", body, element)
    elementwise.refused(layer, body is None, "has no inputs")
    assert body is not None
    if not summed:
        return elementwise.only(layer, body)
    return elementwise.only(layer, terms.reduction("sum", [(names[one], extents[one]) for one in summed], body))


def _labels(layer: Layer) -> tuple[list[list[str]], list[str]]:
    """Each input's labels and the output's; an ellipsis' dimensions are "0", "1", ... counted from the back."""
    equation = elementwise.word(layer, "equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    texts = left.split(",")
    ranks = [len(terms.operand(layer, position).shape) for position in range(len(texts))]
    covered = [rank - len(text.replace("...", "")) for text, rank in zip(texts, ranks, strict=True)]
    inputs = [_spread(text, count) for text, count in zip(texts, covered, strict=True)]
    widest = max((count for text, count in zip(texts, covered, strict=True) if "..." in text), default=0)
    if not arrow:  # labels that stand once, in order, behind the ellipsis
        letters = left.replace(",", "").replace(".", "")
        right = "..." * ("..." in left) + "".join(sorted(one for one in set(letters) if letters.count(one) == 1))
    return inputs, _spread(right, widest)


def _spread(text: str, covered: int) -> list[str]:
    before, dots, behind = text.partition("...")
    return [*before, *(str(n) for n in range(covered - 1, -1, -1) if dots), *behind]


def _determinant(layer: Layer) -> tuple[Computation, ...]:
    """By cofactors along the first row: n! terms, so for small matrices alone."""
    size = terms.operand(layer, 0).shape[-1]
    elementwise.refused(layer, size > 4, f"of a matrix of {size} rows is not written out")
    batch = terms.indices(terms.result(layer).shape)

    def minor(row: int, columns: tuple[int, ...]) -> Expression:
        total: Expression | None = None
        for number, column in enumerate(columns):
            term = terms.load(layer, 0, [*batch, row, column])
            if len(columns) > 1:
                term = call("*", term, minor(row + 1, columns[:number] + columns[number + 1 :]))
            total = term if total is None else call("-" if number % 2 else "+", total, term)
        return total if total is not None else terms.number(1.0, terms.computed(terms.operand(layer, 0).dtype))

    return elementwise.only(layer, minor(0, tuple(range(size))))


LOWERINGS: Mapping[str, Lowering] = {
    "Det": _determinant,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _integer,
    "QLinearMatMul": _quantized,
}
