"""Asks a running server for the test images' digits, and says how often it was right and how long it took.

    ENGINEWRIGHT_URL=http://127.0.0.1:8000 python examples/digits/ask.py

It speaks the Open Inference Protocol v2 over HTTP with its binary tensor extension, with the standard library's client,
to show how little a client needs; Triton's clients work as well.
"""

import json
import os
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
SHADES = " .:-=+*#%@"
SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One connection to a server, and the name of the model to ask."""

    connection: HTTPConnection
    model: str

    def metadata(self) -> dict[str, Any]:
        """What the server says of the model: name, versions, inputs and outputs."""
        self.connection.request("GET", f"/v2/models/{self.model}")
        answer: dict[str, Any] = json.loads(self._body(self.connection.getresponse()))
        return answer

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images [n, 1, 8, 8] to probabilities [n, 10]. n must be a batch size of the plan."""
        pixels = np.ascontiguousarray(images)
        tensor = {"name": "image", "shape": pixels.shape, "datatype": "FP32"}
        header = json.dumps(
            {
                "inputs": [tensor | {"parameters": {"binary_data_size": pixels.nbytes}}],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        self.connection.request(
            "POST",
            f"/v2/models/{self.model}/infer",
            body=header + pixels.tobytes(),
            headers={"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"},
        )
        response = self.connection.getresponse()
        body = self._body(response)
        length = int(response.headers["Inference-Header-Content-Length"])
        (output,) = json.loads(body[:length])["outputs"]
        return np.frombuffer(body, np.float32, offset=length).reshape(output["shape"])

    def _body(self, response: HTTPResponse) -> bytes:
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"the server answered {response.status}: {body.decode(errors='replace')}")
        return body


def drawn(image: NDArray[np.float32]) -> str:
    """An image [8, 8] of grey values 0..16 as eight lines of text."""
    levels = (image / 16 * (len(SHADES) - 1)).round().astype(int)
    return "\n".join("".join(SHADES[level] * 2 for level in row) for row in levels)


def main() -> None:
    """Ask for every test image, one at a time, and print what came back."""
    url = urlsplit(os.environ.get("ENGINEWRIGHT_URL", "http://127.0.0.1:8000"))
    connection = HTTPConnection(url.hostname or "127.0.0.1", url.port or 80, timeout=30)
    server = Server(connection=connection, model=os.environ.get("ENGINEWRIGHT_MODEL", "digits"))
    test = np.load(HERE / "test.npz", allow_pickle=False)
    images, labels = test["image"], test["labels"]

    milliseconds, answers = [], []
    for index in range(len(images)):
        start = time.perf_counter()
        answers.append(int(server.probabilities(images[index : index + 1]).argmax()))
        milliseconds.append((time.perf_counter() - start) * 1e3)

    console = Console()
    pictures = Table.grid(padding=(0, 2))
    pictures.add_row(*(drawn(image[0]) for image in images[:SHOWN]))
    pictures.add_row(*(f"served answer: [bold]{answer}[/bold]" for answer in answers[:SHOWN]))
    console.print(pictures)

    right = int((np.array(answers) == labels).sum())
    p50, p99 = np.percentile(milliseconds, [50, 99])
    console.print(f"\naccuracy   {right} of {len(labels)} test images right: {right / len(labels):.2%}")
    console.print(f"latency    p50 {p50:.2f} ms, p99 {p99:.2f} ms, one image a request, seen by this client")
    facts = server.metadata()["parameters"]
    console.print(f"layers     {facts['layers_before']} in the model, {facts['layers_after']} in the plan")
    console.print(f"plan       {facts['digest']}")


if __name__ == "__main__":
    main()
