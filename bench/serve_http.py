"""How much the HTTP server costs: latency and throughput of a served model, through the protocol's own client and bare.

    enginewright serve digits.plan --http-port 8000 &
    python bench/serve_http.py http://127.0.0.1:8000 digits [--seconds 3] [--clients 1,4]

`binary` and `json` are tritonclient.http; `bare` sends the same binary request, made once, over a plain socket, so that
the client's own cost drops out. Each client is a process. Inputs are random, in the model's own shapes (1 where free).
"""

import argparse
import json
import multiprocessing
import os
import platform
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton

MODES = ("binary", "json", "bare")


def requests(url: str, model: str, *, binary: bool) -> tuple[list[Any], list[Any]]:
    with urllib.request.urlopen(f"{url}/v2/models/{model}") as answer:
        metadata = json.load(answer)
    generator = np.random.default_rng(0)
    inputs = []
    for tensor in metadata["inputs"]:
        shape = [abs(dimension) for dimension in tensor["shape"]]
        dtype = triton.triton_to_np_dtype(tensor["datatype"])
        value = triton.InferInput(tensor["name"], shape, tensor["datatype"])
        value.set_data_from_numpy(generator.random(shape).astype(dtype), binary_data=binary)
        inputs.append(value)
    return inputs, [triton.InferRequestedOutput(t["name"], binary_data=binary) for t in metadata["outputs"]]


def caller(url: str, model: str, mode: str) -> Callable[[], object]:
    inputs, outputs = requests(url, model, binary=mode != "json")
    if mode != "bare":
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        return lambda: client.infer(model, inputs, outputs=outputs)
    body, length = triton.InferenceServerClient.generate_request_body(inputs, outputs=outputs)
    return bare(url, f"/v2/models/{model}/infer", bytes(body), length)


def bare(url: str, path: str, body: bytes, length: int) -> Callable[[], object]:
    parts = urllib.parse.urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}Inference-Header-Content-Length: {length}\r\n\r\n".encode() + body

    def call() -> object:
        connection.sendall(request)
        answer = connection.recv(1 << 20)
        header, _, rest = answer.partition(b"\r\n\r\n")
        if not header.startswith(b"HTTP/1.1 200"):
            raise SystemExit(answer.decode(errors="replace"))
        # With the line break before it, so that Inference-Header-Content-Length is not taken for it.
        wanted = int(header.split(b"\r\nContent-Length: ")[1].split(b"\r\n")[0])
        while len(rest) < wanted:
            rest += connection.recv(1 << 20)
        return rest

    return call


def client(url: str, model: str, mode: str, seconds: float, results: Any) -> None:
    call = caller(url, model, mode)
    for _ in range(50):
        call()
    times = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - started)
    results.put(times)


def measure(url: str, model: str, mode: str, clients: int, seconds: float) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=client, args=(url, model, mode, seconds, results)) for _ in range(clients)]
    for process in processes:
        process.start()
    times = np.concatenate([results.get() for _ in processes]) * 1e3
    for process in processes:
        process.join()
    p50, p99 = np.percentile(times, [50, 99])
    print(f"{mode:8}{clients:>8}{p50:>10.3f}{p99:>10.3f}{len(times) / seconds:>14.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", default="1,4", help="numbers of clients, with commas between")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors shared by server and clients")
    print(f"{'mode':8}{'clients':>8}{'p50 ms':>10}{'p99 ms':>10}{'requests/s':>14}")
    for mode in MODES:
        for clients in map(int, arguments.clients.split(",")):
            measure(arguments.url.rstrip("/"), arguments.model, mode, clients, arguments.seconds)


if __name__ == "__main__":
    main()
