"""Outages: the tracking server is away, hangs, fails, loses replies, or is none, for a part of the requests."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.chaos import checks, commands
from tests.chaos.promises import Attack, Attempt
from tests.chaos.proxy import MODES, Outage, Proxy
from tests.chaos.templates import Templates, accept_candidates
from trainer.core import artifacts

__all__ = ["ATTACKS"]

COMPLETES = "A training ends well in spite of an outage; only at its start it may say that the server does not answer"
BIT_EQUAL = "Its results have the same bits as those of an undisturbed training"
ONCE = "After sync the server has every metric point exactly once"
FILES = "After sync the server has every file of the run with its bytes, and one model"
REGISTERED = "A model is registered once"
ENDED = "After sync nothing is RUNNING"
READABLE = "No traceback, and no message of more than 300 characters"
DECIDED = "After an outage, aliases and tags follow the decision log, and each command decided once at most"
WHOLE = "The output of predict is whole or absent"


@contextlib.contextmanager
def disturbed(attempt: Attempt, requests: int) -> Iterator[Proxy]:
    """Give a proxy with an outage at one of its first `requests` requests, chosen at random."""
    rng = attempt.rng
    first = rng.choice((1, rng.randint(1, requests), rng.randint(1, requests)))
    count = rng.choice((1, 1, 3, rng.randint(1, requests), 10**9))
    outage = Outage(rng.choice(MODES), first, count, rng.choice((1.0, 1.0, 0.3, 0.1)))
    attempt.note(f"server {outage.mode} for {count} of {requests} requests from {first} on, share {outage.share}")
    with Proxy(attempt.templates.server.uri, outage, rng) as proxy:
        yield proxy
        attempt.note(f"{proxy.disturbed} of {proxy.requests} requests were disturbed")


def train(attempt: Attempt) -> None:
    """Train behind the proxy, end the outage, deliver the rest."""
    templates, folder = attempt.templates, attempt.folder
    reference = templates.trained
    (original,) = reference.folder.glob("runs/*/outcome.json")
    requests = templates.once("requests of train", lambda: count_requests(templates))
    folder.mkdir()
    experiment = f"{attempt.name} {attempt.number}".replace("/", " ")
    argv = [*templates.training, "--register", "true"]
    with disturbed(attempt, requests) as proxy:
        variables = variables_of(proxy.uri) | {"MLFLOW_EXPERIMENT_NAME": experiment}
        ended = commands.start(folder, "trainer.train", argv, variables=variables).wait()
        proxy.end_outage()
        attempt.check(READABLE, checks.readable(ended))
        has_begun = bool(list(folder.glob("runs/*/config.json")))
        attempt.check(COMPLETES, checks.ended_well(ended, *((0,) if has_begun else (0, 1))))
        if (folder / "runs").is_dir():
            synced = commands.start(folder, "trainer.sync", [], variables=variables).wait()
            attempt.check(READABLE, checks.readable(synced))
            attempt.check(ENDED, checks.ended_well(synced))
    store = templates.server.folder / "mlflow.db"
    attempt.check(ENDED, checks.no_running(store, experiment))
    for outcome in folder.glob("runs/*/outcome.json"):
        run_id = outcome.parent.name
        attempt.check(BIT_EQUAL, checks.same_results(outcome.parent, original.parent))
        attempt.check(ONCE, checks.only_once(store, run_id, (reference.folder / "mlflow.db", original.parent.name)))
        attempt.check(FILES, checks.same_files(store, outcome.parent))
        attempt.check(REGISTERED, checks.registered_once(store, run_id))


def promote(attempt: Attempt) -> None:
    """Promote twice behind the proxy; after the outage the same command puts all right."""
    templates, folder = attempt.templates, attempt.folder
    run_ids = templates.once("runs on the server", lambda: train_on_server(templates))
    folder.mkdir()
    name = f"chaos {attempt.number} {attempt.rng.randint(0, 10**6)}"
    argv = ["--registered_model", name, "--run_id"]
    direct = variables_of(templates.server.uri)
    commands.start(folder, "registry.promote", [*argv, run_ids[0]], variables=direct, prepare=accept_candidates).wait()
    with disturbed(attempt, 60) as proxy:
        through = variables_of(proxy.uri)
        words = [*argv, run_ids[1]]
        ended = commands.start(folder, "registry.promote", words, variables=through, prepare=accept_candidates).wait()
        attempt.check(READABLE, checks.readable(ended))
        attempt.check(DECIDED, checks.ended_well(ended, 0, 1))
        proxy.end_outage()
        again = commands.start(folder, "registry.promote", words, variables=through, prepare=accept_candidates).wait()
        attempt.check(DECIDED, checks.ended_well(again))
        commands.start(folder, "trainer.sync", [], variables=through).wait()
    attempt.check(DECIDED, checks.registry_faults(folder, templates.server.uri, name))


def predict(attempt: Attempt) -> None:
    """Score with a model of the server, history too; both end with a message or well."""
    templates, folder = attempt.templates, attempt.folder
    run_ids = templates.once("runs on the server", lambda: train_on_server(templates))
    wanted = templates.once("predicted on the server", lambda: predict_undisturbed(templates, run_ids[0]))
    folder.mkdir()
    output = folder / "scored.csv"
    argv = ["--input", templates.texts, "--output", output.name, "--model", f"runs:/{run_ids[0]}/model"]
    with disturbed(attempt, 20) as proxy:
        variables = variables_of(proxy.uri)
        ended = commands.start(folder, "registry.predict", argv, variables=variables).wait()
        attempt.check(READABLE, checks.readable(ended))
        attempt.check(WHOLE, checks.ended_well(ended, 0, 1))
        whole = not output.exists() or output.read_bytes() == wanted
        attempt.check(WHOLE, None if whole else "the output is neither whole nor absent")
        attempt.check(WHOLE, "no output, and exit status 0" if ended.status == 0 and not output.exists() else None)
        if attempt.rng.random() < 0.3:
            listed = commands.start(folder, "registry.history", [], variables=variables).wait()
            attempt.check(READABLE, checks.readable(listed))


def variables_of(uri: str) -> Mapping[str, str]:
    """Return the environment that sends a command to a server."""
    return {"MLFLOW_TRACKING_URI": uri}


def count_requests(templates: Templates) -> int:
    """Return the number of requests of an undisturbed training."""
    folder = templates.folder / "requests"
    folder.mkdir()
    with Proxy(templates.server.uri, None, None) as proxy:
        argv = [*templates.training, "--register", "true"]
        ended = commands.start(folder, "trainer.train", argv, variables=variables_of(proxy.uri)).wait()
        assert ended.status == 0, ended.text
        return proxy.requests


def train_on_server(templates: Templates) -> list[str]:
    """Return the ids of two finished runs on the server."""
    folder = templates.folder / "on-server"
    folder.mkdir()
    for seed in (1, 2):
        argv = [*templates.training, "--seed", seed]
        ended = commands.start(folder, "trainer.train", argv, variables=variables_of(templates.server.uri)).wait()
        assert ended.status == 0, ended.text
    return sorted(path.parent.name for path in folder.glob(f"runs/*/{artifacts.OUTCOME}"))


def predict_undisturbed(templates: Templates, run_id: str) -> bytes:
    """Return the output of predict without an outage."""
    folder: Path = templates.folder / "predicted-on-server"
    folder.mkdir()
    argv = ["--input", templates.texts, "--output", "scored.csv", "--model", f"runs:/{run_id}/model"]
    ended = commands.start(folder, "registry.predict", argv, variables=variables_of(templates.server.uri)).wait()
    assert ended.status == 0, ended.text
    return (folder / "scored.csv").read_bytes()


ATTACKS = (
    Attack("outages/train", train, (COMPLETES, BIT_EQUAL, ONCE, FILES, REGISTERED, ENDED, READABLE), 4),
    Attack("outages/promote", promote, (DECIDED, READABLE), 2),
    Attack("outages/predict", predict, (WHOLE, READABLE), 1),
)
