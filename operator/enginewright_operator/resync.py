"""What no event tells: events that did not come, nodes that changed, and inputs that were replaced in their store.

The lists of all watched kinds are compared with the cache, the nodes' GPUs with those of before, and the stores are
asked for each input's version, once in every resync period. Who is not concerned by a difference is not looked at.
"""

import asyncio
import logging

from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.watched import Put
from enginewright_runtime.errors import EnginewrightError

logger = logging.getLogger(__name__)

RETRY = 2.0
# The first lists and the watches begin at the same time: what was deleted between the two would never be told.
SECOND_LOOK = 10.0


async def run(scope: Scope, put: Put, stop: asyncio.Event, *, begin: asyncio.Event) -> None:
    """Until `stop` is set; `begin` is set when the cache was filled once."""
    while not await _compared(scope):
        await asyncio.sleep(RETRY)
    begin.set()
    period = scope.settings.resync_seconds
    clock = asyncio.get_running_loop().time  # the wall clock may be set back meanwhile, by hours
    await asyncio.sleep(min(SECOND_LOOK, period))
    while not stop.is_set():
        await _compared(scope)
        began = clock()
        await _looked_at_nodes(scope, put)
        await _polled(scope, put, within=period / 2)
        await asyncio.sleep(max(period / 4, period - (clock() - began)))


async def _compared(scope: Scope) -> bool:
    try:
        missed = await scope.gatherer.relist()
    except EnginewrightError as error:
        logger.warning("The resync has to wait: %s", error.message)
        return False
    logger.info("Resynced: %d objects were news.", missed)
    return True


async def _looked_at_nodes(scope: Scope, put: Put) -> None:
    try:
        changed = await scope.gatherer.poll_nodes(put)
    except EnginewrightError as error:
        logger.warning("The nodes are looked at again later: %s", error.message)
        return
    if changed:
        logger.info("The GPUs of %d classes are others than before.", changed)


async def _polled(scope: Scope, put: Put, *, within: float) -> None:
    try:
        changed = await scope.gatherer.poll_inputs(put, within=within)
    except EnginewrightError as error:
        logger.warning("The stores are asked again later: %s", error.message)
        return
    if changed:
        logger.info("%d inputs are others than before.", changed)
