"""The training runs of an experiment that have a score on dev, grouped by their examples, and counts of the others."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.core import artifacts
from trainer.core.errors import TuningError, nearest, shorten
from trainer.core.run_folder import RUNTIME_SETTINGS
from trainer.reporting.report import Estimate
from trainer.tracking.run_lookup import search_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

__all__ = ["DataGroup", "FoundRuns", "TrainingRun", "find_experiment", "read_runs"]

_SHORT_DIGEST = 8
_NAMED_ELSEWHERE = {"loss", "ratio", "seed", "dataset", "processes", *RUNTIME_SETTINGS}
_ENDED_BADLY = ("FAILED", "KILLED")


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A finished training run with a score on dev."""

    run_id: str
    name: str
    dev_score: float
    test: Estimate
    """The score on test, with the interval that the run logged; nothing where test was not read."""
    loss: str
    """With the ratio of a combined loss: `combined:0.7`."""
    seed: str
    seconds: float | None
    """From start to end of the run."""
    settings: Mapping[str, str]
    """Settings that have no column of their own."""
    train_digest: str


@dataclass(frozen=True, kw_only=True)
class DataGroup:
    """Runs with the same dev and test examples and labels, whose scores can be compared."""

    dataset: str
    label_names: tuple[str, ...]
    """Empty for runs of an older version, which did not log them."""
    num_dev: int | None
    """Number of dev examples."""
    dev_digest: str
    runs: tuple[TrainingRun, ...]
    """The best on dev first; of equal scores the older first."""

    @property
    def title(self) -> str:
        """The data set in words."""
        labels = f"{len(self.label_names)} labels" if self.label_names else "labels not logged"
        examples = f", {self.num_dev:,} dev examples" if self.num_dev is not None else ""
        return f"{self.dataset}: {labels}{examples} (digest {self.dev_digest or 'not logged'})"


@dataclass(frozen=True, kw_only=True)
class FoundRuns:
    """The runs of an experiment."""

    groups: tuple[DataGroup, ...]
    """The largest group first."""
    others: Mapping[str, int]
    """Why a training run is not listed → number of such runs."""


def find_experiment(client: "MlflowClient", name: str) -> "Experiment":
    """Return the experiment of this name; with an empty one that of this command's own run, which is not created.

    Raises TuningError, with the names that exist, when there is none.
    """
    if not name and (run_id := os.environ.get("MLFLOW_RUN_ID")):  # made by `mlflow run`
        return client.get_experiment(client.get_run(run_id).info.experiment_id)
    if not name and (own := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        return client.get_experiment(own)
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or artifacts.DEFAULT_EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        names = sorted(one.name for one in client.search_experiments())
        raise TuningError(
            f"`experiment` must be an experiment on the tracking server, got {shorten(name)}.{nearest(name, names)} "
            f"Experiments: {shorten(', '.join(names))}."
        )
    return found


def read_runs(client: "MlflowClient", experiment: "Experiment", metric: str) -> FoundRuns:
    """Return the training runs of an experiment, those nested under searches and comparisons included.

    metric: the score on dev, such as `macro_f1`. Raises TuningError when no finished run has it.
    """
    others: Counter[str] = Counter()
    groups: dict[tuple[Any, ...], list[tuple[float, Run]]] = {}
    for run in search_runs(client, experiment.experiment_id):
        score = _dev_score(run, metric)
        reason = _why_not_listed(run, score)
        if score is not None and not reason:
            groups.setdefault(_group_key(run), []).append((score, run))
        elif _is_training(run):
            others[reason] += 1
    if not groups:
        counted = "".join(f" Its runs: {_counted(others)}." if others else "")
        raise TuningError(
            f"Experiment {shorten(experiment.name)} has no finished training run with a {metric} on dev.{counted} "
            "Train one there, or name another experiment."
        )
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return FoundRuns(groups=tuple(_group(key, runs, metric) for key, runs in ordered), others=others)


def _is_training(run: "Run") -> bool:
    tags = run.data.tags
    if artifacts.TAG_COMMAND in tags or artifacts.TAG_RESUMES in tags:
        return False
    return artifacts.TAG_PRESET in tags or artifacts.TAG_TRIAL in tags


def _why_not_listed(run: "Run", score: float | None) -> str:
    """Return the state of a run that is not listed; empty for one that is."""
    if run.data.tags.get(artifacts.TAG_TRIAL_STATE) == "pruned":
        return "pruned"
    if run.info.status in _ENDED_BADLY:
        return "failed or stopped"
    if run.info.status != "FINISHED":
        return "running"
    if f"{artifacts.PARAMETER_PREFIX}fold" in run.data.params:
        return "of one fold"  # its dev is a part of the data that no other fold shares
    return "" if score is not None else "without a score on dev"


def _counted(others: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(others.items()))


def _dev_score(run: "Run", metric: str) -> float | None:
    if artifacts.TAG_COMMAND in run.data.tags:  # a search logs the scores of its winner too
        return None
    return artifacts.final_score(run.data.metrics, artifacts.metric("dev", metric))


def _group_key(run: "Run") -> tuple[Any, ...]:
    """Return what must be equal for scores to compare: digests of dev and test, and the labels, as far as logged."""
    digests = [run.data.tags.get(f"{artifacts.TAG_DATA_DIGEST}.{role}", "") for role in ("dev", "test")]
    return (*(digest[: artifacts.SHORT_DIGEST] for digest in digests), _label_names(run))


def _label_names(run: "Run") -> tuple[str, ...]:
    schema = json.loads(getattr(_dev_input(run), "schema", None) or "{}")
    columns = schema.get("mlflow_colspec", [])
    return tuple(column["name"] for column in columns if column["type"] == "double")


def _dev_input(run: "Run") -> Any:
    """Return the data set that the run logged as its dev split; None without one."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return next((one.dataset for one in inputs if any(tag.value == "dev" for tag in one.tags)), None)


def _group(key: tuple[Any, ...], runs: "Sequence[tuple[float, Run]]", metric: str) -> DataGroup:
    ranked = sorted(runs, key=lambda one: (-one[0], one[1].info.start_time))
    best = ranked[0][1]
    dev = _dev_input(best)
    profile = json.loads(dev.profile or "{}") if dev else {}
    return DataGroup(
        dataset=dev.name if dev else _setting(best, "dataset").rpartition("/")[2],
        label_names=key[2],
        num_dev=profile.get("rows"),
        dev_digest=key[0][:_SHORT_DIGEST],
        runs=tuple(_training_run(run, score, metric) for score, run in ranked),
    )


def _training_run(run: "Run", score: float, metric: str) -> TrainingRun:
    prefix, measured, info = artifacts.PARAMETER_PREFIX, run.data.metrics, run.info
    ends = [measured.get(artifacts.metric("test", name)) for name in (metric, f"{metric}_low", f"{metric}_high")]
    loss, ratio = _setting(run, "loss"), _setting(run, "ratio")
    settings = {name.removeprefix(prefix): text for name, text in run.data.params.items() if name.startswith(prefix)}
    return TrainingRun(
        run_id=info.run_id,
        name=info.run_name or info.run_id,
        dev_score=score,
        test=Estimate(*ends),
        loss=f"{loss}:{float(ratio):.3g}" if loss == "combined" and ratio else loss,
        seed=_setting(run, "seed"),
        seconds=(info.end_time - info.start_time) / 1000 if info.end_time else None,
        settings={name: text for name, text in settings.items() if name not in _NAMED_ELSEWHERE},
        train_digest=run.data.tags.get(f"{artifacts.TAG_DATA_DIGEST}.train", "")[: artifacts.SHORT_DIGEST],
    )


def _setting(run: "Run", name: str) -> str:
    return str(run.data.params.get(f"{artifacts.PARAMETER_PREFIX}{name}", ""))
