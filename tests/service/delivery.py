"""Compares run folders with a tracking server, read through its REST API: not by the client that is tested."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from trainer.core import artifacts

__all__ = ["Delivered", "Reader", "compare"]

_SECONDS = 120.0
_RUNS_PER_CALL = 100  # MLflow's limits
_POINTS_PER_CALL = 25_000
_SHOWN = 3

Point = tuple[str, int, int, str]
"""Metric, step, time, and value as text: NaN equals no number."""


class Reader:
    """Reads runs of a service as one of its users."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: what a client sets, as `RunningService.environment` returns it."""
        self.url = environment["MLFLOW_TRACKING_URI"].rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False  # REQUESTS_CA_BUNDLE would come before the certificate
        self.session.auth = (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"])
        self.session.verify = environment["MLFLOW_TRACKING_SERVER_CERT_PATH"]

    def call(self, path: str, **parameters: Any) -> Any:
        """Return the answer to a GET of the API."""
        answer = self.session.get(f"{self.url}/{path}", params=parameters, timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, **content: Any) -> Any:
        """Return the answer to a POST of the API."""
        answer = self.session.post(f"{self.url}/{path}", json=content, timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def run(self, run_id: str) -> Any:
        """Return a run as the API has it."""
        return self.call("api/2.0/mlflow/runs/get", run_id=run_id)["run"]

    def running(self, experiment: str) -> list[str]:
        """Return the ids of the runs of an experiment that have the status RUNNING."""
        found = self.call("api/2.0/mlflow/experiments/get-by-name", experiment_name=experiment)["experiment"]
        query = {"filter": "attributes.status = 'RUNNING'", "max_results": 1000}
        runs = self.post("api/2.0/mlflow/runs/search", experiment_ids=[found["experiment_id"]], **query)
        return [one["info"]["run_id"] for one in runs.get("runs", [])]

    def points(self, run_ids: list[str]) -> dict[str, Counter[Point]]:
        """Return every metric point of the runs, with how often the server has it."""
        found: dict[str, Counter[Point]] = {run_id: Counter() for run_id in run_ids}
        keys = {metric["key"] for run_id in run_ids for metric in self.run(run_id)["data"].get("metrics", [])}
        for key in sorted(keys):
            for start in range(0, len(run_ids), _RUNS_PER_CALL):
                answer = self.call(
                    "ajax-api/2.0/mlflow/metrics/get-history-bulk",
                    run_id=run_ids[start : start + _RUNS_PER_CALL],
                    metric_key=key,
                    max_results=_POINTS_PER_CALL,
                )
                for one in answer.get("metrics", []):
                    found[one["run_id"]][_point(key, one["step"], one["timestamp"], one["value"])] += 1
        return found

    def file(self, run: Any, path: str) -> bytes | None:
        """Return the bytes of an artifact of a run; None when there is none."""
        place = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        return self._stored(f"{place}/{path}")

    def models(self, run: Any) -> list[dict[str, Any]]:
        """Return the logged models of a run."""
        answer = self.post(
            "api/2.0/mlflow/logged-models/search",
            experiment_ids=[run["info"]["experiment_id"]],
            filter=f"source_run_id = '{run['info']['run_id']}'",
        )
        return [one["info"] for one in answer.get("models", [])]

    def model_file(self, model: Mapping[str, Any], path: str) -> bytes | None:
        """Return the bytes of a file of a logged model."""
        return self._stored(f"{model['artifact_uri'].removeprefix('mlflow-artifacts:/')}/{path}")

    def _stored(self, place: str) -> bytes | None:
        url = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{place}"
        answer = self.session.get(url, timeout=_SECONDS)
        if answer.status_code in (404, 500):  # MLflow answers 500 for a key that S3 does not have
            return None
        answer.raise_for_status()
        return answer.content


@dataclass
class Delivered:
    """How much of what run folders contain the server has."""

    runs: int = 0
    points: int = 0
    """Metric points in the event logs."""
    lost: int = 0
    doubled: int = 0
    files: int = 0
    """Artifacts and files of models."""
    lost_files: int = 0
    faults: list[str] = field(default_factory=list)
    """What differs, in words."""

    def add(self, other: "Delivered") -> None:
        """Add the counts of other runs."""
        for name in ("runs", "points", "lost", "doubled", "files", "lost_files"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults


def compare(reader: Reader, folders: list[Path]) -> Delivered:
    """Compare every metric point, artifact, parameter, tag, model and status of run folders with the server."""
    total, stored = Delivered(), reader.points([folder.name for folder in folders])
    for folder in folders:
        one = Delivered(runs=1)
        events = list(_events(folder))
        run = reader.run(folder.name)
        _compare_points(one, events, stored[folder.name])
        _compare_files(one, events, folder, reader, run)
        _compare_rest(one, events, folder, run)
        one.faults = [f"{folder.name}: {fault}" for fault in one.faults]
        total.add(one)
    return total


def _compare_points(one: Delivered, events: list[Mapping[str, Any]], stored: Counter[Point]) -> None:
    logged = {
        _point(name, event["content"]["step"], event["time"], value)
        for event in events
        if event["kind"] == "metrics"
        for name, value in event["content"]["metrics"].items()
    }
    at_step = Counter((name, step) for name, step, _, _ in stored.elements())
    lost, twice = logged - stored.keys(), [point for point, count in at_step.items() if count > 1]
    one.points, one.lost, one.doubled = len(logged), len(lost), len(twice) + len(stored.keys() - logged)
    one.faults += [f"the server lacks {name} at step {step}" for name, step, _, _ in sorted(lost)[:_SHOWN]]
    one.faults += [f"the server has {name} at step {step} more than once" for name, step in sorted(twice)[:_SHOWN]]
    one.faults += [f"no event has the point {point}" for point in sorted(stored.keys() - logged)[:_SHOWN]]


def _compare_files(one: Delivered, events: list[Mapping[str, Any]], folder: Path, reader: Reader, run: Any) -> None:
    logged = {event["content"]["path"] for event in events if event["kind"] == "artifact"}
    of_search = {artifacts.TRIAL_LOG} if (folder / artifacts.TRIAL_LOG).is_file() else set()
    for path in logged | of_search:
        _compare_file(one, path, folder / path, reader.file(run, path))
    wanted = [event for event in events if event["kind"] == "model"]
    models = reader.models(run) if wanted else []
    if wanted and [model["status"] for model in models] != ["LOGGED_MODEL_READY"]:
        one.faults.append(f"models of the run: {[model['status'] for model in models]}")
    for model in models:
        home = folder / artifacts.MODEL
        for file in sorted(home.rglob("*")):
            if file.is_file() and file.name != "MLmodel":  # MLflow adds the model's id to it
                path = file.relative_to(home).as_posix()
                _compare_file(one, f"model/{path}", file, reader.model_file(model, path))


def _compare_file(one: Delivered, name: str, file: Path, stored: bytes | None) -> None:
    one.files += 1
    if stored is None or (file.is_file() and file.read_bytes() != stored):
        one.lost_files += 1
        one.faults.append(f"the server {'lacks' if stored is None else 'has other bytes of'} {name}")


def _compare_rest(one: Delivered, events: list[Mapping[str, Any]], folder: Path, run: Any) -> None:
    params, tags = ({item["key"] for item in run["data"].get(kind, [])} for kind in ("params", "tags"))
    # No event "open": the server went away between the making of the run and its start, and the command said so.
    opened = max((place for place, event in enumerate(events) if event["kind"] == "open"), default=0)
    # A tag replaces a parameter that a continued run had with another text; the tags of its earlier end are removed.
    lacking = _names("params", events) - params - tags
    lacking |= _names("tags", events[opened:]) - tags
    lacking |= _names("tags", events[:opened]) - tags - {artifacts.TAG_ERROR, artifacts.TAG_NOTE}
    one.faults += [f"the server lacks parameter or tag {name}" for name in sorted(lacking)[:_SHOWN]]
    if (folder / "events.rejected.jsonl").exists():
        one.faults.append("events were refused")
    statuses = [event["content"]["status"] for event in events if event["kind"] == "status"]
    if not statuses:
        one.faults.append("the run has no end in its event log")
    elif run["info"]["status"] != statuses[-1]:
        one.faults.append(f"the status is {run['info']['status']}, logged was {statuses[-1]}")


def _names(kind: str, events: list[Mapping[str, Any]]) -> set[str]:
    return {name for event in events if event["kind"] == kind for name in event["content"][kind]}


def _events(folder: Path) -> Iterator[Mapping[str, Any]]:
    for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["run_id"] in (folder.name, ""):
            yield event


def _point(key: str, step: Any, time: Any, value: Any) -> Point:
    return key, int(step), int(time), repr(float(value))
