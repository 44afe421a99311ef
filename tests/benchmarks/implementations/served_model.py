"""The served model: its MLflow model, calls with one text, and the scoring server with several clients."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from tests.serving.serving_helpers import ScoringServer
from trainer.data import sources
from trainer.evaluation.calibration import IDENTITY
from trainer.fit.components import build_components
from trainer.model import saving
from trainer.serving import packaging
from trainer.serving.scoring import Member

__all__ = ["load_served", "measure_server", "time_calls"]

_WARM_UP = 20
_CALLS = 200
_CLIENTS = 8
_REQUESTS = 50  # of each client


def load_served(config, precision):
    """Return the loaded MLflow model of an untrained classifier, and the texts of the test split."""
    import mlflow.pyfunc

    folder, texts = _save(config)
    return mlflow.pyfunc.load_model(str(folder), model_config={"precision": precision}), texts


def time_calls(call, texts):
    """Return the percentiles of the milliseconds of `call` with one text."""
    for text in texts[:_WARM_UP]:
        call(text)
    seconds = []
    for number in range(_CALLS):
        started = time.perf_counter()
        call(texts[number % len(texts)])
        seconds.append(time.perf_counter() - started)
    return _percentiles(seconds)


def measure_server(config, precision):
    """Return requests per second, percentiles and errors of the scoring server; a request has one text."""
    folder, texts = _save(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"SERVING_MODEL_CONFIG": json.dumps({"precision": precision})}
    server = ScoringServer(folder, Path(config.run.output), port, **variables)
    try:
        server.wait(120)
        _request(port, texts[:_WARM_UP])
        started = time.perf_counter()
        answers = _request_in_parallel(port, texts)
        seconds = time.perf_counter() - started
    finally:
        server.stop()
    errors = sum(status != 200 for status, _ in answers)
    return _percentiles([one for _, one in answers]) | {"per_second": len(answers) / seconds, "errors": errors}


def _save(config):
    dataset = sources.load(config.data, seed=config.run.seed)
    output = Path(config.run.output)
    components = build_components(dataset, config.data, config.model, cache=output / ".cache")
    saving.save(components.model, components.tokenizer, output / "classifier", dataset.label_names, {})
    packaging.save_model(
        output / "model",
        [Member(classifier=output / "classifier", calibration=IDENTITY, max_length=config.data.max_length)],
        thresholds={"fixed": np.full(len(dataset.label_names), 0.5)},
        default_policy="fixed",
    )
    return output / "model", list(dataset.test.texts)


def _request_in_parallel(port, texts):
    batches = [[texts[(client * _REQUESTS + i) % len(texts)] for i in range(_REQUESTS)] for client in range(_CLIENTS)]
    with ThreadPoolExecutor(_CLIENTS) as clients:
        return [answer for answers in clients.map(lambda batch: _request(port, batch), batches) for answer in answers]


def _request(port, texts):
    """Return status and seconds of a request for each text, over one connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    answers = []
    for text in texts:
        started = time.perf_counter()
        connection.request("POST", "/invocations", json.dumps({"inputs": [text]}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        answers.append((response.status, time.perf_counter() - started))
    connection.close()
    return answers


def _percentiles(seconds):
    return {f"p{q}_milliseconds": float(np.percentile(seconds, q)) * 1e3 for q in (50, 99)}
