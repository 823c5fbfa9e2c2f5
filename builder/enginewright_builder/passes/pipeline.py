"""The passes in their order, each with its reason, and the one loop that runs them."""

from collections.abc import Iterable

from enginewright_builder.network.network import Network
from enginewright_builder.passes.affine_into_weights import AffineIntoWeights
from enginewright_builder.passes.base import Pass, PassReport
from enginewright_builder.passes.common_subexpressions import CommonSubexpressions
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.no_ops import NoOps
from enginewright_builder.passes.unread import Unread

PIPELINE: tuple[Pass, ...] = (
    Unread(),  # first: what is not needed need not be computed ahead either
    FoldConstants(),  # constants are what every later pass looks for
    NoOps(),  # before fusions, which look at neighbours
    CommonSubexpressions(),  # after no-ops, which make more layers equal
    AffineIntoWeights(),  # before the fusion: a batch norm inside of the weights is no epilogue
    FuseEpilogues(),  # after all that removes what stands between a base and its epilogue
    Unread(),  # what the others left behind
)


def run(network: Network, pipeline: Iterable[Pass] = PIPELINE) -> tuple[PassReport, ...]:
    """Apply passes in order, in place. Returns what each did."""
    return tuple(each.apply(network) for each in pipeline)
