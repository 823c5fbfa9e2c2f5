"""Tasks that run until they are told to end: the first that ends is noticed, and all of them end in bounded time."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

logger = logging.getLogger(__name__)

Tasks = Collection["asyncio.Task[Any]"]
CANCELS = 2  # a task may swallow one: kopf's watchers do while they connect anew


async def until_one_ends(tasks: Tasks) -> None:
    """Wait for the first that ends; what ended it, an error or a cancellation, is raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def end(tasks: Tasks, *, within: float) -> None:
    """Cancel them and wait, for `within` seconds; then once more what has not ended. Raises no error of theirs."""
    for _ in range(CANCELS):
        running = [task for task in tasks if not task.done()]
        if not running:
            break
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=within)
    for task in tasks:
        if not task.done():
            logger.error("The task %s does not end, and is left.", task.get_name())
        elif not task.cancelled():
            task.exception()  # asyncio would tell of it as of one that nobody asked for
