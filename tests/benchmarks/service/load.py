"""What the service does under load: calls per second of several clients, and the cost of accounts and TLS."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.benchmarks.common.processes import alternate, by_metric
from tests.benchmarks.common.tables import Row, Table
from tests.benchmarks.service.places import WORKERS, plain_server, service
from tests.service.delivery import Reader

__all__ = ["measure"]

_CLIENTS = 8
_METRICS = [f"test/per_label/f1 of label {number}" for number in range(112)]
_START_SECONDS = 120
_CONTEXT = multiprocessing.get_context("fork")  # each client would import MLflow for seconds
_of_process = {}


@dataclass(frozen=True)
class _Client:
    """What one client has done: its run, when it began and ended, and the seconds of each call."""

    run_id: str
    began: float
    ended: float
    seconds: list[float]


def measure(options):
    """Yield one table: clients of the service, against one client and against SQLite without accounts and TLS."""
    steps = 10 if options.quick else 60
    with service() as running, plain_server() as uri:
        through, plain = running.environment(), {"MLFLOW_TRACKING_URI": uri}
        lost = []
        functions = {
            "ours": partial(_load, through, _CLIENTS, steps, lost),
            "one client": partial(_load, through, 1, steps, lost),
            "SQLite": partial(_load, plain, _CLIENTS, steps, None),
        }
        ours, one, plain = map(by_metric, alternate(functions, options.repetitions).values())
    rows = [
        Row(measure=f"calls/s, reference: {name}", ours=ours["rate"], reference=other["rate"], more_is_better=True)
        for name, other in (("one client", one), ("SQLite", plain))
    ]
    for metric, words in (("p50", "p50, milliseconds"), ("p99", "p99, milliseconds")):
        rows += [
            Row(measure=f"{words}, reference: {name}", ours=ours[metric], reference=other[metric])
            for name, other in (("one client", one), ("SQLite", plain))
        ]
    rows.append(Row(measure="points that the server lacks or has twice", ours=lost, below=1))
    note = (
        f"{_CLIENTS} clients on the same machine, {steps} calls of {len(_METRICS)} metrics each, TLS, login, "
        f"{WORKERS} processes of the server, PostgreSQL. SQLite: the same without TLS and accounts."
    )
    yield Table(title="service: load", rows=tuple(rows), note=note)


def _load(environment, clients, steps, lost):
    """Return calls per second and percentiles; adds the number of lost points to `lost`."""
    arguments = (_CONTEXT.Barrier(clients, timeout=_START_SECONDS),)
    with ProcessPoolExecutor(clients, _CONTEXT, initializer=_remember, initargs=arguments) as pool:
        tasks = [pool.submit(_log, environment, steps) for _ in range(clients)]
        results = [task.result() for task in tasks]
    if lost is not None:
        lost.append(_lost(Reader(environment), results, steps))
    seconds = sorted(value for result in results for value in result.seconds)
    span = max(result.ended for result in results) - min(result.began for result in results)
    return {
        "rate": len(seconds) / span,
        "p50": 1e3 * seconds[len(seconds) // 2],
        "p99": 1e3 * seconds[int(len(seconds) * 0.99)],
    }


def _remember(barrier):
    """Keep what a client process needs: a barrier cannot be passed to it later."""
    _of_process["barrier"] = barrier


def _log(environment, steps):
    os.environ.update({**environment, "MLFLOW_DISABLE_TELEMETRY": "true"})
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, metrics=[Metric("warm", 0.0, 0, 0)])  # connects
    _of_process["barrier"].wait()  # all begin together
    began, seconds = time.time(), []
    for step in range(steps):
        points = [Metric(name, step + 0.5, time.time_ns() // 1_000_000, step) for name in _METRICS]
        start = time.perf_counter()
        client.log_batch(run_id, metrics=points)
        seconds.append(time.perf_counter() - start)
    return _Client(run_id, began, time.time(), seconds)


def _lost(reader, results, steps):
    """Return how many points the server lacks, and how many it has more than once."""
    wanted, faults = {(name, step) for name in _METRICS for step in range(steps)}, 0
    for points in reader.points([result.run_id for result in results]).values():
        stored = [(name, step) for name, step, _, _ in points.elements() if name != "warm"]
        faults += len(wanted - set(stored)) + len(stored) - len(set(stored))
    return float(faults)
