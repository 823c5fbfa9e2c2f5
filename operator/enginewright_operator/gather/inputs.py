"""Which version each input of each engine has, as the stores told; asked for again and again, since no event tells.

One question may be many engines': it is asked once, and remembered until the next round of `poll`. Only namespaces
tell answers apart, never credentials: whoever may read a namespace's Secret is the same engine's owner.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from enginewright_operator import api
from enginewright_runtime.errors import StorageError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which version does this object have, for whoever the namespace's credentials are?"""

    namespace: str
    storage: str  # the storage as JSON: where, and which Secret
    uri: str


Answer = str | StorageError | UsageError
Ask = Callable[[Question], Awaitable[Answer]]


def question(namespace: str, storage: api.Storage, uri: str) -> Question:
    """The question for one input of an engine."""
    return Question(namespace=namespace, storage=storage.model_dump_json(), uri=uri)


class Inputs:
    """Answers, by question."""

    def __init__(self) -> None:
        self._answers: dict[Question, str] = {}

    def known(self, questions: Iterable[Question]) -> dict[Question, str] | None:
        """The remembered versions; None unless all are remembered."""
        found = {each: self._answers.get(each, "") for each in questions}
        return found if all(found.values()) else None

    def remember(self, asked: Question, answer: str) -> None:
        """An answer from the store."""
        self._answers[asked] = answer

    async def poll(
        self,
        asking: Mapping[Question, Iterable[tuple[str, str]]],
        ask: Ask,
        put: Callable[[str, str], None],
        *,
        within: float,
    ) -> int:
        """Ask each question anew, spread over so many seconds; whose answer is another one is put into the queue.

        `asking` are the engines, by namespace and name, of each question. Returns how many answers were others.
        """
        for gone in self._answers.keys() - asking.keys():
            del self._answers[gone]
        changed = 0
        for each, engines in asking.items():
            before, answer = self._answers.get(each), await ask(each)
            if isinstance(answer, str):
                self._answers[each] = answer
            else:
                self._answers.pop(each, None)  # the engine asks itself, and says what is wrong
            if before != self._answers.get(each):
                changed += 1
                for namespace, name in engines:
                    put(namespace, name)
            await asyncio.sleep(within / len(asking))
        return changed
