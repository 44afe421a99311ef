"""The choice of a candidate among the finished runs of an experiment."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.promotion.candidates import RANKING, Candidate, data_digest, dev_score
from trainer.core import artifacts
from trainer.core.errors import RegistryError
from trainer.tracking.run_lookup import search_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Selection", "select_run"]

_SETS_SHOWN = 3
_OTHER = {role: f"whose {role} examples differ from the champion's" for role in ("dev", "test")}
_NO_DEV_DIGEST = f"without the tag {artifacts.TAG_DATA_DIGEST}.dev, which older versions did not write"
_ROLLED_BACK = "whose model was rolled back"


@dataclass(frozen=True)
class Selection:
    """The best run of an experiment."""

    run_id: str
    remarks: tuple[str, ...]
    """Runs left out and why, in sentences."""


@dataclass(frozen=True)
class _Contender:
    """A finished run with a model and a score on dev."""

    run_id: str
    score: float
    start_time: int
    digests: Mapping[str, str]
    """Digest of the examples of dev and test; empty where the run has no such tag."""


def select_run(
    client: "MlflowClient", experiment_id: str, *, champion: Candidate | None, rolled_back: Iterable[str]
) -> Selection:
    """Return the finished run with a model and the highest score on dev, on the champion's dev and test examples.

    A run that was trained on dev as well has no such score: it must be named. Without a champion all runs must have
    the same dev and test examples. rolled_back: runs whose model a rollback took back. Raises RegistryError when there
    is no such run, or when their scores cannot be compared.
    """
    runs = _contenders(client, experiment_id)
    experiment = client.get_experiment(experiment_id).name
    if not runs:
        raise RegistryError(
            f"Experiment {experiment} has no finished run with a model and {RANKING}. Train one there, or name another "
            "experiment or a run_id."
        )
    remarks: list[str] = []
    taken_back = set(rolled_back)
    runs = _comparable(runs, champion, remarks)
    # Else the next promote would bring back what a rollback removed.
    runs = _keep(runs, lambda run: run.run_id not in taken_back, _ROLLED_BACK, remarks)
    if not runs:
        raise RegistryError(
            f"Experiment {experiment} has no candidate left: {'; '.join(remarks)}. Name a run with run_id."
        )
    for role in ("test", "dev"):
        _check_one_digest(runs, role, experiment)
    # Of equal scores the first, in any order of the server.
    best = max(runs, key=lambda run: (run.score, -run.start_time))
    remarks.insert(0, f"best of {len(runs)} runs by {RANKING}: {best.score:.4f}")
    return Selection(best.run_id, tuple(remarks))


def _contenders(client: "MlflowClient", experiment_id: str) -> list[_Contender]:
    contenders = []
    for run in search_runs(client, experiment_id, "attributes.status = 'FINISHED'"):
        if f"{artifacts.PARAMETER_PREFIX}fold" in run.data.params:
            continue  # a fold of a cross-validation, whose dev is another part of the data
        score = dev_score(run)
        if score is not None and run.outputs and run.outputs.model_outputs:
            digests = {role: data_digest(run, role) for role in ("dev", "test")}
            contenders.append(_Contender(run.info.run_id, score, run.info.start_time, digests))
    return contenders


def _comparable(runs: list[_Contender], champion: Candidate | None, remarks: list[str]) -> list[_Contender]:
    """Return the runs on the champion's dev and test examples, as far as their tags tell."""
    if champion is not None:
        runs = _keep(
            runs,
            lambda run: run.digests["test"] == champion.test_digest[: artifacts.SHORT_DIGEST],
            _OTHER["test"],
            remarks,
        )
    if runs and not any(run.digests["dev"] for run in runs):  # older versions did not write the tag
        remarks.append(f"not checked: equal dev examples, because no run has the tag {artifacts.TAG_DATA_DIGEST}.dev")
        return runs
    runs = _keep(runs, lambda run: run.digests["dev"] != "", _NO_DEV_DIGEST, remarks)
    if champion is not None and champion.dev_digest:  # a champion of an older version has none
        runs = _keep(runs, lambda run: run.digests["dev"] == champion.dev_digest, _OTHER["dev"], remarks)
    return runs


def _keep(
    runs: list[_Contender], fits: Callable[[_Contender], bool], reason: str, remarks: list[str]
) -> list[_Contender]:
    """Return the runs that fit; add a remark on the others."""
    kept = [run for run in runs if fits(run)]
    if len(kept) < len(runs):
        remarks.append(f"left out: {len(runs) - len(kept)} runs {reason}")
    return kept


def _check_one_digest(runs: list[_Contender], role: str, experiment: str) -> None:
    # Rising: a better run replaces others.
    best = {run.digests[role]: run for run in sorted(runs, key=lambda run: run.score)}
    if len(best) > 1:
        ranked = sorted(best.values(), key=lambda run: run.score, reverse=True)
        listed = "; ".join(f"{run.run_id} ({run.score:.4f})" for run in ranked[:_SETS_SHOWN])
        raise RegistryError(
            f"The candidates in {experiment} have {len(best)} different sets of {role} examples, so their scores "
            f"cannot be compared. Name a run with run_id; the best of each set: {listed}."
        )
