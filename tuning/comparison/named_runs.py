"""Finished runs that the user names, grouped into configurations by their settings."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.core.errors import DataError, SettingsError, shorten
from trainer.core.run_folder import changed_splits
from trainer.core.settings import quote, show
from trainer.tracking.backend import MlflowBackend
from tuning.comparison.config import CompareConfig
from tuning.comparison.finished_runs import FinishedRun, load_run
from tuning.comparison.results import ComparedRun, ComparisonPlan
from tuning.comparison.trainings import Key, compared_run
from tuning.training_settings import effective_settings

__all__ = ["group_runs", "load_named_runs", "plan_of_runs"]

_HEAD = ("loss", "ratio")
_OF_A_RUN = ("seed", "fold")


def load_named_runs(text: str, output: Path, store: MlflowBackend) -> list[FinishedRun]:
    """Return the runs of the setting `runs`. Raises DataError when they predicted other examples or labels."""
    ids = [part.strip() for part in text.split(",") if part.strip()]
    if len(set(ids)) < len(ids) or len(ids) < 2:
        raise SettingsError(f"`runs` must be at least two different run ids, got {quote(text)}.")
    runs = [load_run(run_id, output, store) for run_id in ids]
    first = runs[0]
    for run in runs[1:]:
        # Folds have other examples of dev by design; the report checks that together they are the same.
        roles = ("test",) if run.config.data.folds else ("dev", "test")
        held_out = [{role: one.digests.get(role, "") for role in roles} for one in (first, run)]
        if changed := changed_splits(held_out[0], held_out[1]):
            raise DataError(
                f"Runs must have the same examples of dev and test, but {', '.join(changed)} of run {run.run_id} "
                f"differs from run {first.run_id}. Compare runs of one data set."
            )
    return runs


def group_runs(runs: Sequence[FinishedRun]) -> dict[Key, FinishedRun]:
    """Return configuration and seed → run. Runs that differ in their seed alone are one configuration.

    Raises DataError for two runs with the same settings and seed, and when all are one configuration.
    """
    settings = [_settings(run) for run in runs]
    groups: list[dict[str, Any]] = []
    for values in settings:
        if values not in groups:
            groups.append(values)
    if len(groups) < 2:
        raise DataError("`runs` must be of two configurations at least, but these differ in their seeds alone.")
    names = _names(groups)
    found: dict[Key, FinishedRun] = {}
    for run, values in zip(runs, settings, strict=True):
        fold = run.config.data.fold if run.config.data.folds else 0
        key = Key(names[groups.index(values)], run.config.run.seed, fold)
        if key in found:
            raise DataError(
                f"Runs {found[key].run_id} and {run.run_id} have the same settings and seed. Leave one of them out."
            )
        found[key] = run
    return found


def plan_of_runs(config: CompareConfig, runs: Mapping[Key, FinishedRun]) -> tuple[ComparisonPlan, list[ComparedRun]]:
    """Return the plan of a comparison of finished runs, each configuration against the first, and their records."""
    settings = {name: _settings(run) for (name, *_), run in runs.items()}
    varied = _varied([*settings.values()])
    names = [*settings]
    plan = ComparisonPlan(
        name=config.comparison or f"{len(runs)} finished runs",
        configurations={
            name: {one: values[one] for one in varied if one in values} for name, values in settings.items()
        },
        seeds=tuple(sorted({seed for _, seed, _ in runs})),
        metric=config.metric,
        planned=tuple((name, names[0]) for name in names[1:]),
        min_effect=config.min_effect,
        resamples=config.resamples,
        written=datetime.now().astimezone().isoformat(timespec="seconds"),
        exploratory=(),
    )
    return plan, [compared_run(key, run, reused=True) for key, run in runs.items()]


def _settings(run: FinishedRun) -> dict[str, Any]:
    return {name: value for name, value in effective_settings(run.config).items() if name not in _OF_A_RUN}


def _names(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each group of settings: its loss, `combined:0.7`, and what sets it apart from others."""
    heads = [":".join(show(values[name]) for name in _HEAD if name in values) for values in groups]
    names = []
    for head, values in zip(heads, groups, strict=True):
        alike = [one for other, one in zip(heads, groups, strict=True) if other == head]
        apart = [f"{name}={show(values[name])}" for name in _varied(alike) if name in values]
        names.append(shorten(", ".join([head, *apart])))
    if len(set(names)) < len(names):  # shortened to the same text
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return names


def _varied(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which the groups differ, in the order of training."""
    known = dict.fromkeys(name for values in groups for name in values)
    return [name for name in known if any(values.get(name) != groups[0].get(name) for values in groups)]
