"""How long many runs and versions take: the pages of experiments and models in the browser, and our look-ups."""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.benchmarks.common.processes import alternate
from tests.benchmarks.common.tables import Row, Table
from tests.benchmarks.service.places import service

__all__ = ["measure"]

_METRICS = [f"test/{name} of label {number}" for name in ("f1", "ap") for number in range(40)]
_FEW, _WRITERS = 10, 4
_CHROMIUM = "/usr/bin/chromium"
_PAGE_SECONDS = 300


def measure(options):
    """Yield one table: pages and look-ups with many runs and versions, against few."""
    runs, versions = (50, 20) if options.quick else (1000, 200)
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    with service() as running, _variables({**running.environment(), **quiet}):
        functions = {}
        for name, sizes in {"few": (_FEW, 1), "many": (runs, versions)}.items():
            experiment = _make_runs(running.url, name, sizes[0])
            _make_versions(running.url, experiment, name, sizes[1])
            functions |= {
                f"{name} runs": partial(_show, running, f"experiments/{experiment}/runs", f"run-{sizes[0]}-of"),
                f"{name} versions": partial(_show, running, f"models/{name}", f"Version {sizes[1]}"),
                f"{name} look-ups": partial(_look_up, running.url, name),
            }
        seconds = alternate(functions, options.repetitions)
    words = {
        "runs": f"experiment page, {runs:,} runs x {len(_METRICS)} metrics, seconds; reference: {_FEW} runs",
        "versions": f"model page, {versions} versions, seconds; reference: 1 version",
        "look-ups": f"look-ups of promote and history, {versions} versions and decisions, seconds; reference: 1",
    }
    rows = [
        Row(measure=text, ours=seconds[f"many {kind}"], reference=seconds[f"few {kind}"])
        for kind, text in words.items()
    ]
    note = "Until the newest row of the page is there: headless Chromium on this machine, an empty cache, TLS, login."
    yield Table(title="service: pages", rows=tuple(rows), note=note)


@contextlib.contextmanager
def _variables(given):
    """Set the variables of a client, which MLflow reads at each call, for the block."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


def _make_runs(url, name, count):
    """Make an experiment with finished runs; return its id."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(url)
    experiment = client.create_experiment(name)

    def make(number):
        run_id = client.create_run(experiment, run_name=f"run-{number}-of").info.run_id
        metrics = [Metric(metric, (number * 7 + place) % 100 / 100, 0, 1) for place, metric in enumerate(_METRICS)]
        client.log_batch(run_id, metrics=metrics, params=[Param("cfg.seed", str(number)), Param("cfg.loss", "bce")])
        client.set_terminated(run_id)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(make, range(1, count)))
    make(count)  # last, so that it is the newest
    return experiment


def _make_versions(url, experiment, name, count):
    """Register versions of a model, with a decision about each, and give the last one the alias."""
    from mlflow import MlflowClient

    from registry.store.decision_log import Decision, DecisionLog

    client = MlflowClient(url)
    run = client.create_run(experiment, run_name="source")
    client.create_registered_model(name)
    log, parent = DecisionLog(client, name), 0
    for version in range(1, count + 1):
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, await_creation_for=0)
        facts = {"why": "it is better", "by": "the benchmark", "run_id": run.info.run_id}
        decision = Decision(kind="promoted", version=version, parent=parent, replaced=version - 1 or None, **facts)
        parent = log.append(decision).number
    client.delete_run(run.info.run_id)


def _look_up(url, name):
    """Return the seconds in which promote and history read versions, aliases and decisions."""
    from mlflow import MlflowClient

    from registry.store.aliases import read_snapshot
    from registry.store.decision_log import DecisionLog

    client, began = MlflowClient(url), time.perf_counter()
    read_snapshot(client, name, DecisionLog(client, name))
    return time.perf_counter() - began


def _show(running, page, text):
    """Return the seconds until a page of MLflow shows a text, in a browser that has visited nothing yet."""
    from playwright.sync_api import sync_playwright

    login = running.environment()
    credentials = {"username": login["MLFLOW_TRACKING_USERNAME"], "password": login["MLFLOW_TRACKING_PASSWORD"]}
    with sync_playwright() as tool, tool.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"]) as browser:
        context = browser.new_context(http_credentials=credentials, ignore_https_errors=True)
        shown, began = context.new_page(), time.perf_counter()
        shown.goto(f"{running.url}/#/{page}")
        shown.get_by_text(text, exact=False).first.wait_for(timeout=_PAGE_SECONDS * 1000)
        return time.perf_counter() - began
