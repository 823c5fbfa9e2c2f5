"""The serving pods' own metrics, read over HTTP: a canary's edge. Nothing here judges.

A pod is asked at its own address, so the operator has to reach the pods; `scrape_proxy` is for where it cannot.
"""

import asyncio
from collections.abc import Sequence

import aiohttp

from enginewright_operator import api
from enginewright_operator.kube import Manifest
from enginewright_operator.rollout import Reading, Sample, exposition

TIMEOUT = aiohttp.ClientTimeout(total=3.0)
MOST_BYTES = 1 << 20
AT_ONCE = 16


class Scraper:
    """Reads metrics. `proxy` is the URL of an HTTP proxy, or empty."""

    def __init__(self, *, port: int, proxy: str = "") -> None:
        self._port = port
        self._proxy = proxy or None
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def sample(self, stable: Sequence[Manifest], canary: Sequence[Manifest], *, model: str) -> Sample:
        """The counters of both sets of pods; where one pod does not answer, its set has none and `problem` says why."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
            answers = await asyncio.gather(*(self._ask(session, pod, model) for pod in (*stable, *canary)))
        problems = [answer for answer in answers if isinstance(answer, str)]
        return Sample(
            stable=_reading(stable, answers[: len(stable)]),
            canary=_reading(canary, answers[len(stable) :]),
            problem=problems[0] if problems else "",
        )

    async def _ask(self, session: aiohttp.ClientSession, pod: Manifest, model: str) -> api.Counts | str:
        name, address = pod["metadata"]["name"], (pod.get("status") or {}).get("podIP", "")
        if not address:
            return f"the pod {name} has no address yet"
        host = f"[{address}]" if ":" in address else address
        try:
            async with (
                self._turns,
                session.get(f"http://{host}:{self._port}/metrics", proxy=self._proxy, allow_redirects=False) as answer,
            ):
                text = await answer.content.read(MOST_BYTES)
                while not answer.content.at_eof() and len(text) < MOST_BYTES:
                    text += await answer.content.read(MOST_BYTES - len(text))
                if answer.status != 200:
                    return f"the pod {name} answers /metrics with status {answer.status}"
            return exposition.counts(text.decode(), model=model)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return f"the metrics of the pod {name} cannot be read ({type(error).__name__}): may the operator reach it?"
        except ValueError as error:
            return f"the metrics of the pod {name} are none: {error}"


def _reading(pods: Sequence[Manifest], answers: Sequence[api.Counts | str]) -> Reading:
    parts = [answer for answer in answers if isinstance(answer, api.Counts)]
    statuses = [each for pod in pods for each in (pod.get("status") or {}).get("containerStatuses") or ()]
    return Reading(
        pods=tuple(sorted(pod["metadata"]["name"] for pod in pods)),
        restarts=sum(int(each.get("restartCount", 0)) for each in statuses),
        counts=exposition.total(parts) if len(parts) == len(answers) else None,
    )
