"""What is left after an attack: run folders, the tracking store, processes and terminal output, read from outside.

Each function returns its faults, none when all is well.
"""

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.chaos import commands
from tests.chaos.commands import Ended
from trainer.core import artifacts

__all__ = [
    "ended_well",
    "no_checkpoints",
    "no_orphans",
    "no_partial_files",
    "no_running",
    "no_scratch",
    "only_once",
    "readable",
    "registry_faults",
    "same_results",
]

LONGEST_MESSAGE = 300
_READY = 2  # of MLflow's LoggedModelStatus
_ORPHAN_SECONDS = 90.0  # a stopped training has 30 seconds to close its run
_RESULTS = ("labels.json", "thresholds.json", "calibration.json", "per_label.json", "threshold_sweep.json")
_MEASURED = re.compile(r"(^system/|second|latency|memory|duration|time)")
"""Metrics that depend on the machine."""


def readable(ended: Ended) -> list[str]:
    """No traceback, and an error message of at most 300 characters."""
    faults = []
    if defect := re.search(r"Traceback \(most recent call last\)|Unexpected error", ended.text):
        faults.append(f"traceback or defect: {ended.text[defect.start() :][:1500]}")
    message = " ".join(re.split(r"^error: ", ended.text, flags=re.MULTILINE)[-1].split()) if ended.status == 1 else ""
    if too_long(message):
        faults.append(f"message of {len(message)} characters: {message[:400]}")
    if ended.status == 1 and not re.search(r"^error: ", ended.text, re.MULTILINE):
        faults.append(f"exit status 1 without a message: {ended.text[-300:]}")
    return faults


def too_long(message: str) -> bool:
    """Whether a message has more than 300 characters; a list of faulty rows may have ten lines of them."""
    return len(message) > LONGEST_MESSAGE * (10 if " faulty row" in message else 1)


def ended_well(ended: Ended, *allowed: int) -> list[str]:
    """Exit status 0, or one of `allowed`."""
    if ended.status in (allowed or (0,)):
        return []
    return [f"exit status {ended.status}: {ended.text.strip()[-700:]}"]


def same_results(folder: Path, reference: Path) -> list[str]:
    """The results of a run folder have the same bits as those of an undisturbed run."""
    if not (folder / "outcome.json").is_file():
        return [f"no outcome.json in {folder}"]
    names = [*_RESULTS, *(str(path.relative_to(reference)) for path in sorted(reference.glob("predictions/*")))]
    names.append("classifier/model.safetensors")
    faults = [f"{name} differs" for name in names if _digest(folder / name) != _digest(reference / name)]
    kept, wanted = (_comparable(json.loads((one / "outcome.json").read_text())) for one in (folder, reference))
    return faults + [
        f"{name}: {kept.get(name)} instead of {wanted[name]}" for name in wanted if kept.get(name) != wanted[name]
    ]


def only_once(store: Path, run_id: str, reference: tuple[Path, str]) -> list[str]:
    """Each metric of a run has each point of the undisturbed run once, with its value, and no other point."""
    points, wanted = read_points(store, run_id), read_points(*reference)
    faults = [f"{key} has step {step} {len(values)} times" for (key, step), values in points.items() if len(values) > 1]
    compared = {point for point in {*points, *wanted} if not point[0].startswith("system/")}
    for point in sorted(compared):
        if point not in points or point not in wanted:
            faults.append(f"{point[0]} {'lacks' if point in wanted else 'has the superfluous'} step {point[1]}")
        elif not _MEASURED.search(point[0]) and points[point][-1] != wanted[point][-1]:
            faults.append(f"{point[0]} is {points[point][-1]} at step {point[1]} instead of {wanted[point][-1]}")
    return faults[:5]


def no_running(store: Path, experiment: str = "%", killed_in: Path | None = None) -> list[str]:
    """No run has the status RUNNING.

    experiment: the one to look at, all by default. killed_in: folder of run folders after SIGKILL; a run that the
    server had just created has none there, so no command can know of it.
    """
    runs = _query(
        store,
        "SELECT run_uuid, runs.name FROM runs JOIN experiments USING (experiment_id) "
        "WHERE status = 'RUNNING' AND runs.lifecycle_stage = 'active' AND experiments.name LIKE ?",
        experiment,
    )
    known = [run for run in runs if killed_in is None or (killed_in / run[0]).is_dir()]
    return [f"run {run_id} ({name}) is RUNNING" for run_id, name in known]


def statuses(store: Path) -> dict[str, str]:
    """Return run id → status."""
    return dict(_query(store, "SELECT run_uuid, status FROM runs"))


def read_points(store: Path, run_id: str) -> dict[tuple[str, int], list[float]]:
    """Return (metric, step) → every value that was stored for it."""
    points: dict[tuple[str, int], list[float]] = {}
    for key, step, value in _query(store, "SELECT key, step, value FROM metrics WHERE run_uuid = ?", run_id):
        points.setdefault((key, step), []).append(value)
    return points


def no_orphans(folder: Path) -> list[str]:
    """Every process that the commands of an attempt have started ends by itself."""
    limit = time.monotonic() + _ORPHAN_SECONDS
    while (left := commands.find_marked(folder)) and time.monotonic() < limit:
        time.sleep(0.5)
    faults = [f"process {one.pid} goes on: {' '.join(one.cmdline())[:200]}" for one in left if one.is_running()]
    for process in left:
        process.kill()
    return faults


def no_checkpoints(run_folder: Path) -> list[str]:
    """A run with results keeps no checkpoint."""
    files = [str(path.relative_to(run_folder)) for path in run_folder.glob("checkpoints/**/*") if path.is_file()]
    return [f"checkpoints left: {', '.join(files[:3])}"] if files else []


def no_partial_files(folder: Path) -> list[str]:
    """No partly written file is left below the folder of an attempt."""
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith((".partial", ".tmp"))]
    return [f"left: {', '.join(sorted(left)[:3])}"] if left else []


def no_scratch(folder: Path) -> list[str]:
    """No temporary folder or file is left."""
    # PyTorch keeps its compiler's cache there.
    left = sorted(path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("torchinductor_"))
    return [f"left: {', '.join(left[:3])}"] if left else []


def same_files(store: Path, run_folder: Path) -> list[str]:
    """The server has the files of a run folder with their bytes, and one complete model of the run."""
    (uri,) = _query(store, "SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_folder.name)[0]
    stored = store.parent / "artifacts" / uri.removeprefix("mlflow-artifacts:/")
    faults = []
    for name in artifacts.UPLOADED:
        path = run_folder / name
        for file in [path, *path.rglob("*")]:
            relative = file.relative_to(run_folder)
            if file.is_file() and _digest(file) != _digest(stored / relative):
                faults.append(f"{relative} on the server: {_digest(stored / relative)[:7]}, here {_digest(file)[:7]}")
    models = _query(
        store, "SELECT status, artifact_location FROM logged_models WHERE source_run_id = ?", run_folder.name
    )
    if len(models) != 1 or models[0][0] != _READY:
        return [*faults, f"models of the run: {models}"]
    place = store.parent / "artifacts" / models[0][1].removeprefix("mlflow-artifacts:/")
    for file in (run_folder / artifacts.MODEL).rglob("*"):
        relative = file.relative_to(run_folder / artifacts.MODEL)
        if file.is_file() and relative.name != "MLmodel" and _digest(file) != _digest(place / relative):
            faults.append(f"model/{relative} differs on the server")
    return faults[:5]


def registered_once(store: Path, run_id: str) -> list[str]:
    """Exactly one version comes from the run."""
    versions = _query(store, "SELECT name, version FROM model_versions WHERE run_id = ? AND name = 'emotions'", run_id)
    return [] if len(versions) == 1 else [f"versions of run {run_id}: {versions}"]


def registry_faults(folder: Path, uri: str | None = None, model: str = "emotions") -> list[str]:
    """Aliases and tags follow the decision log."""
    return commands.call(folder, _registry_faults, uri, model)


def _registry_faults(uri: str | None, model: str) -> list[str]:
    from mlflow import MlflowClient

    from registry.store.aliases import read_snapshot
    from registry.store.decision_log import DecisionLog

    client = MlflowClient(uri)
    snapshot = read_snapshot(client, model, DecisionLog(client, model))
    faults = [str(move) for move in snapshot.moves]
    if snapshot.is_incomplete:
        faults.append("the last decision is not written completely")
    faults += [f"decision {one.number} is external: {one.why}" for one in snapshot.decisions if one.kind == "external"]
    keys = [one.run_id for one in snapshot.decisions]
    return faults + [f"run {key} decided {keys.count(key)} times" for key in set(keys) if keys.count(key) > 1]


def _comparable(outcome: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if not _MEASURED.search(name)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def _query(store: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(store, timeout=60)) as connection:
        return connection.execute(statement, values).fetchall()


def join(*faults: Iterable[str]) -> list[str]:
    """Return all faults."""
    return [fault for group in faults for fault in group]
