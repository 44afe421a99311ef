"""The served model in a benchmark: its bundle, a call of one text, and many clients of the scoring server."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from tests.serving.served_parts import ScoringServer
from trainer.data import sources
from trainer.fit.components import build_components
from trainer.model import saving
from trainer.serving import packaging
from trainer.serving.scoring import Member

__all__ = ["ask_server", "load_served", "time_calls"]

_WARM_UP = 20
_CALLS = 200
_CLIENTS = 8
_REQUESTS = 50  # of each client


def load_served(config, precision):
    """The loaded bundle of an untrained classifier with the encoder of the settings, and the texts of test."""
    import mlflow.pyfunc

    folder, texts = _write(config)
    return mlflow.pyfunc.load_model(str(folder), model_config={"precision": precision}), texts


def time_calls(call, texts):
    """Median and 99th percentile of the milliseconds that `call` needs for one text."""
    for text in texts[:_WARM_UP]:
        call(text)
    seconds = []
    for number in range(_CALLS):
        started = time.perf_counter()
        call(texts[number % len(texts)])
        seconds.append(time.perf_counter() - started)
    return _percentiles(seconds)


def ask_server(config, precision):
    """Requests per second, percentiles and errors of the scoring server with clients that ask one text at a time."""
    folder, texts = _write(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chosen = {"SERVING_MODEL_CONFIG": json.dumps({"precision": precision})}
    server = ScoringServer(folder, Path(config.run.output), port, **chosen)
    try:
        server.wait(120)
        _ask(port, texts[:_WARM_UP])
        shares = [
            [texts[(client * _REQUESTS + i) % len(texts)] for i in range(_REQUESTS)] for client in range(_CLIENTS)
        ]
        started = time.perf_counter()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            answers = [answer for share in clients.map(lambda share: _ask(port, share), shares) for answer in share]
        seconds = time.perf_counter() - started
    finally:
        server.stop()
    errors = sum(status != 200 for status, _ in answers)
    return _percentiles([one for _, one in answers]) | {"per_second": len(answers) / seconds, "errors": errors}


def _write(config):
    dataset = sources.load(config.data, seed=config.run.seed)
    output, k = Path(config.run.output), len(dataset.label_names)
    components = build_components(dataset, config.data, config.model, cache=output / ".cache")
    saving.save(components.model, components.tokenizer, output / "classifier", dataset.label_names, {})
    packaging.save_model(
        output / "model",
        [Member(classifier=output / "classifier", temperature=1.0, max_length=config.data.max_length)],
        thresholds={"fixed": np.full(k, 0.5)},
        default_policy="fixed",
    )
    return output / "model", list(dataset.test.texts)


def _ask(port, texts):
    """Status and seconds of each request, over one connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    answers = []
    for text in texts:
        started = time.perf_counter()
        connection.request("POST", "/invocations", json.dumps({"inputs": [text]}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        answers.append((answer.status, time.perf_counter() - started))
    connection.close()
    return answers


def _percentiles(seconds):
    return {f"p{q}_milliseconds": float(np.percentile(seconds, q)) * 1e3 for q in (50, 99)}
