"""Constant requests through a Service while something happens behind it, each answer checked."""

import threading
import time
from types import TracebackType

import numpy as np
import tritonclient.http
from engines.engine_case import EXAMPLE
from tritonclient.utils import InferenceServerException


class Load:
    """Context manager: asks without a pause, one image a request, until it is left; then `failed` tells what failed.

    A connection stays with one pod; with `renew` there is a new one after so many requests.
    """

    def __init__(self, address: str, model: str = "digits", *, renew: int = 0) -> None:
        self._address, self._model, self._renew = address, model, renew
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.answered = 0
        self.right = 0
        self.failed: list[str] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(150)

    def _run(self) -> None:
        test = np.load(EXAMPLE / "test.npz", allow_pickle=False)
        images, labels = test["image"], test["labels"]
        client = self._client()
        try:
            while not self._stop.is_set():
                count = self.answered + len(self.failed)
                if self._renew and count % self._renew == 0:
                    client.close()
                    client = self._client()
                index = count % len(images)
                self._ask(client, images[index : index + 1], int(labels[index]))
                time.sleep(0.002)
        finally:
            client.close()

    def _client(self) -> tritonclient.http.InferenceServerClient:
        return tritonclient.http.InferenceServerClient(self._address, network_timeout=120, connection_timeout=120)

    def _ask(self, client: tritonclient.http.InferenceServerClient, image: np.ndarray, label: int) -> None:
        given = tritonclient.http.InferInput("image", list(image.shape), "FP32")
        given.set_data_from_numpy(image, binary_data=True)
        try:
            answer = client.infer(self._model, [given]).as_numpy("probabilities")
        except (InferenceServerException, OSError, ValueError) as error:
            self.failed.append(f"request {self.answered}: {type(error).__name__}: {error}")
            return
        self.answered += 1
        self.right += int(answer is not None and int(answer.argmax()) == label)
