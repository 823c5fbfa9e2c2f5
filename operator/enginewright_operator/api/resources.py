"""What a container may have, as a Pod's spec says it."""

from typing import Annotated

from pydantic import Field

from enginewright_operator.api.base import Strict

Amounts = Annotated[dict[str, int | str], Field(max_length=16)]


class Resources(Strict):
    """Requests and limits of a container. The GPU itself is added by the GPU class."""

    requests: Amounts | None = Field(default=None, description="What is reserved, as in {cpu: 2, memory: 1Gi}.")
    limits: Amounts | None = Field(default=None, description="What may not be exceeded.")
