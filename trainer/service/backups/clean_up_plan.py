"""What the clean-up removes from the tracking server, and what it keeps because something names it.

A run or logged model is kept when a registered version, with or without an alias, or a decision of a decision log names
it. MLflow's own `mlflow gc` looks at none of these.
"""

import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core import artifacts
from trainer.core.errors import SettingsError
from trainer.core.run_folder import has_results
from trainer.service.stores import StoredObject, Stores

if TYPE_CHECKING:
    import psycopg

__all__ = ["Limits", "Plan", "Silent", "make_plan"]

_ID = "(?:m-|tr-)?[0-9a-f]{32}"
_NAMED = re.compile(rf"\b{_ID}\b")
_PLACE = re.compile(rf"(?:^|/)({_ID})/artifacts/")
"""Where MLflow puts the artifacts of a run, logged model or trace, whatever stands before it."""
_MILLISECONDS_A_DAY = 24 * 3600 * 1000

_RUNS = """
select run_uuid, experiment_id::text, status, lifecycle_stage = 'deleted', deleted_time, start_time,
    (select max(timestamp) from latest_metrics where latest_metrics.run_uuid = runs.run_uuid),
    (select value from tags where tags.run_uuid = runs.run_uuid and key = 'mlflow.parentRunId')
from runs
"""
_MODELS = """
select model_id, experiment_id::text, source_run_id, lifecycle_stage = 'deleted', last_updated_timestamp_ms
from logged_models
"""
_EXPERIMENTS = """
select experiment_id::text, last_update_time from experiments
where lifecycle_stage = 'deleted' and experiment_id <> 0
    and not exists (select from trace_info where trace_info.experiment_id = experiments.experiment_id)
"""
_TEXTS = """
select concat_ws(' ', source, run_id, storage_location) from model_versions
union all select value from model_version_tags
union all select value from registered_model_tags
"""
_LINKS = "select source_id, destination_id from inputs"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How old a thing must be."""

    days: float
    """Since a run, model or experiment was deleted, or an artifact that nothing names was written."""
    silent_hours: float
    """Since a running run gave a sign of life."""


@dataclass(frozen=True)
class _Run:
    run_id: str
    experiment: str
    status: str
    is_deleted: bool
    deleted: int | None
    started: int | None
    last_metric: int | None
    parent: str | None


@dataclass(frozen=True)
class _Model:
    model_id: str
    experiment: str
    run_id: str | None
    is_deleted: bool
    updated: int


@dataclass(frozen=True)
class Silent:
    """A run that is said to be running and gives no sign of life."""

    run_id: str
    seen: int
    """Its last sign, in milliseconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to remove, and what was kept although its time had come."""

    runs: list[str]
    models: list[str]
    experiments: list[str]
    removed_objects: list[StoredObject]
    """Artifacts of these runs and models."""
    unnamed_objects: list[StoredObject]
    """Artifacts of runs and models that the database does not have."""
    silent: list[Silent]
    checkpoints: list[Path]
    kept_runs: list[str]
    kept_models: list[str]
    other_objects: list[StoredObject]
    """Not in a place where MLflow puts artifacts: somebody else's."""


@dataclass
class _Survey:
    """What the database has, read in one transaction."""

    runs: dict[str, _Run]
    models: dict[str, _Model]
    experiments: dict[str, int | None]
    traces: set[str]
    named: set[str] = field(default_factory=set)
    """Ids that the registry names, and the runs of the models among them."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Run → logged model that it reads or makes."""


def make_plan(stores: Stores, limits: Limits, run_folders: Path) -> Plan:
    """Return what the clean-up would remove now."""
    # The objects first: those of a run that begins later are not among them, those of an earlier one are in the survey.
    objects = stores.objects(stores.s3())
    with stores.connect() as connection:
        survey = _read(connection)
    now = round(time.time() * 1000)
    oldest = now - limits.days * _MILLISECONDS_A_DAY
    runs = [run for run in survey.runs.values() if run.is_deleted and _before(run.deleted, oldest)]
    gone = {run.run_id for run in runs} - survey.named
    models = [
        model
        for model in survey.models.values()
        if (model.is_deleted and _before(model.updated, oldest)) or model.run_id in gone
    ]
    used = _models_in_use(survey, gone)
    gone_models = {model.model_id for model in models} - survey.named - used
    removed, unnamed, other = _sort_objects(objects, survey, gone | gone_models, oldest)
    return Plan(
        runs=sorted(gone),
        models=sorted(gone_models),
        experiments=list(_empty_experiments(survey, gone, gone_models, oldest)),
        removed_objects=removed,
        unnamed_objects=unnamed,
        other_objects=other,
        silent=list(_silent_runs(survey.runs, now - limits.silent_hours * 3600 * 1000)),
        checkpoints=list(_spent_checkpoints(run_folders, survey.runs)),
        kept_runs=sorted(run.run_id for run in runs if run.run_id not in gone),
        kept_models=sorted(model.model_id for model in models if model.model_id not in gone_models),
    )


def _read(connection: "psycopg.Connection[Any]") -> _Survey:
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        survey = _Survey(
            runs={row[0]: _Run(*row) for row in connection.execute(_RUNS)},
            models={row[0]: _Model(*row) for row in connection.execute(_MODELS)},
            experiments=dict(connection.execute(_EXPERIMENTS).fetchall()),
            traces={row[0] for row in connection.execute("select request_id from trace_info")},
            links=connection.execute(_LINKS).fetchall(),
        )
        for (text,) in connection.execute(_TEXTS):
            survey.named.update(_NAMED.findall(text or ""))
    survey.named |= {survey.models[one].run_id or "" for one in survey.named & survey.models.keys()}
    return survey


def _before(moment: int | None, oldest: float) -> bool:
    return moment is not None and moment < oldest


def _models_in_use(survey: _Survey, gone: Collection[str]) -> set[str]:
    """Return the logged models that a run which stays reads or makes, unless they were deleted themselves."""
    linked = {model for run, model in survey.links if run in survey.runs and run not in gone}
    return {one for one in linked & survey.models.keys() if not survey.models[one].is_deleted}


def _empty_experiments(
    survey: _Survey, gone: Collection[str], gone_models: Collection[str], oldest: float
) -> Iterator[str]:
    """Yield the deleted experiments in which no run and no model is left."""
    left: Counter[str] = Counter(run.experiment for run in survey.runs.values() if run.run_id not in gone)
    left.update(model.experiment for model in survey.models.values() if model.model_id not in gone_models)
    for experiment, updated in survey.experiments.items():
        if _before(updated, oldest) and not left[experiment]:
            yield experiment


def _sort_objects(
    objects: Iterable[StoredObject], survey: _Survey, gone: Collection[str], oldest: float
) -> tuple[list[StoredObject], list[StoredObject], list[StoredObject]]:
    """Return the objects of what is removed, those of nothing that is known, and those that are not MLflow's."""
    removed, unnamed, other = [], [], []
    known = survey.runs.keys() | survey.models.keys() | survey.traces | survey.named
    for item in objects:
        owners = _PLACE.findall(item.key)
        if not owners:
            other.append(item)
        elif owners[0] in gone:
            removed.append(item)
        elif not known & {*owners} and item.modified * 1000 < oldest:
            unnamed.append(item)
    return removed, unnamed, other


def _silent_runs(runs: dict[str, _Run], oldest: float) -> Iterator[Silent]:
    """Yield the running runs whose last sign, or that of a run below them, is older than that."""
    seen: dict[str, int] = {}
    for run in runs.values():
        sign = max(run.last_metric or 0, run.started or 0)
        for run_id in _with_parents(run, runs):
            seen[run_id] = max(seen.get(run_id, 0), sign)
    for run in runs.values():
        if run.status == "RUNNING" and not run.is_deleted and seen[run.run_id] < oldest:
            yield Silent(run.run_id, seen[run.run_id])


def _with_parents(run: _Run, runs: dict[str, _Run]) -> Sequence[str]:
    chain = [run.run_id]
    while (parent := runs[chain[-1]].parent) in runs and parent not in chain:
        chain.append(str(parent))
    return chain


def _spent_checkpoints(run_folders: Path, runs: dict[str, _Run]) -> Iterator[Path]:
    """Yield the checkpoints of runs that have their results, or that somebody deleted."""
    for folder in sorted(run_folders.glob(f"*/{artifacts.CHECKPOINTS}")):
        run = runs.get(folder.parent.name)
        if (run and (run.is_deleted or run.status == "FINISHED")) or _has_results(folder.parent):
            yield folder


def _has_results(folder: Path) -> bool:
    try:
        return has_results(folder, with_test=True)
    except SettingsError:  # a damaged file: `resume` names it
        return False
