"""Finished runs whose results a comparison takes: found by their settings, examples and code, or named by their ids."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig
from trainer.core import artifacts
from trainer.core.environment import code_digest
from trainer.core.errors import DataError, EmotionsError, shorten
from trainer.core.input_files import is_file
from trainer.core.run_folder import has_results, read_config, read_object
from trainer.core.settings import flatten, from_flat, show
from trainer.runs.download import fetch_artifacts
from trainer.runs.predicted_labels import needed_files
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import readable_errors
from trainer.tracking.run_lookup import existing_run, search_runs
from tuning.training_settings import effective_settings

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["FinishedRun", "find_finished", "load_run", "read_finished"]

_FACTS = (artifacts.CONFIG, artifacts.ENVIRONMENT, artifacts.DATASET)
_NEEDED = tuple(dict.fromkeys((*_FACTS, *needed_files("dev"), *needed_files("test"))))
"""Artifacts of a run that a comparison reads."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished training with its predictions on this machine."""

    run_id: str
    folder: Path
    config: TrainConfig
    data: Mapping[str, Any]
    """Facts of its data set."""
    code: str
    """Digest of the code that it was trained with; empty for runs of earlier versions."""
    scores: Mapping[str, float]

    @property
    def digests(self) -> Mapping[str, str]:
        """The digests of its splits; none for a run of a version that did not write them there."""
        digests: Mapping[str, str] = self.data.get("digests", {})
        return digests


def find_finished(
    output: Path,
    store: MlflowBackend,
    experiment: str,
    wanted: Mapping[Any, TrainConfig],
    digests: Callable[[TrainConfig], Mapping[str, str]],
) -> dict[Any, FinishedRun]:
    """Return the finished runs with these settings, the examples of these digests and the code of this process.

    wanted: key to settings. digests: gives those of the splits that a training with such settings reads.
    First the run folders in `output`, then the runs of an experiment on the server.
    """
    missing = {key: effective_settings(config) for key, config in wanted.items()}
    found: dict[Any, FinishedRun] = {}
    for run in _candidates(output, store, experiment, missing):
        settings = effective_settings(run.config)
        keys = [key for key, values in missing.items() if values == settings and run.code == code_digest()]
        for key in keys if keys and run.digests == digests(wanted[keys[0]]) else ():
            found[key] = run
            del missing[key]
        if not missing:
            break
    return found


def load_run(run_id: str, output: Path, store: MlflowBackend) -> FinishedRun:
    """Return a run by its id, downloaded where its folder is not in `output`.

    Raises DataError for a run that lacks something, TrackingError for one that the server does not have.
    """
    if (output / run_id).is_dir() and has_results(output / run_id, with_test=True):
        return read_finished(output / run_id)
    with readable_errors(store):
        run = existing_run(store, run_id, "Correct the id, or leave it out.")
    if run.info.status != "FINISHED":
        raise DataError(f"Run {run_id} must be finished to be compared, but is {run.info.status}. Leave it out.")
    return read_finished(fetch_artifacts(store.client, run_id, _NEEDED, output), run.data.metrics)


def read_finished(folder: Path, scores: Mapping[str, float] | None = None) -> FinishedRun:
    """Return the run of a folder. scores: of a downloaded run, whose outcome.json is elsewhere.

    Raises DataError when a file is missing.
    """
    for name in _NEEDED:
        if not is_file(folder / name):
            raise DataError(f"Run {folder.name} cannot be compared: it has no {name}. Train it again, or leave it out.")
    known = flatten(TrainConfig())
    settings = {name: value for name, value in read_config(folder).items() if name in known}
    return FinishedRun(
        run_id=folder.name,
        folder=folder,
        config=from_flat(TrainConfig, settings, origin=f"run {shorten(folder.name)}"),
        data=read_object(folder / artifacts.DATASET),
        code=str(read_object(folder / artifacts.ENVIRONMENT).get("code_digest", "")),
        scores=read_object(folder / artifacts.OUTCOME) if scores is None else scores,
    )


def _candidates(
    output: Path, store: MlflowBackend, experiment: str, missing: Mapping[Any, Mapping[str, Any]]
) -> Iterator[FinishedRun]:
    """Give finished runs; those of the server whose parameters are the settings of a missing one."""
    known = set()
    for path in sorted(output.glob(f"[!.]*/{artifacts.OUTCOME}")):
        known.add(path.parent.name)
        run = _readable(path.parent)
        if run is not None:
            yield run
    for one in _on_server(store, experiment):
        is_other = one.info.run_id not in known and any(_has_parameters(one, values) for values in missing.values())
        if is_other and (run := _downloaded(one, output, store)) is not None:
            yield run


def _readable(folder: Path) -> FinishedRun | None:
    """Return the run of a folder; None for one that cannot be compared, such as a trial that did not read test."""
    try:
        return read_finished(folder) if has_results(folder, with_test=True) else None
    except EmotionsError:
        return None


def _on_server(store: MlflowBackend, experiment: str) -> Iterator["Run"]:
    """Give the finished runs that have scores on test."""
    with readable_errors(store):
        runs = search_runs(store.client, experiment, "attributes.status = 'FINISHED'")
    return (run for run in runs if artifacts.metric("test", "macro_f1") in run.data.metrics)


def _has_parameters(run: "Run", settings: Mapping[str, Any]) -> bool:
    """Return True unless a parameter of the run has another value; config.json, which is downloaded, has them all."""
    named = {f"{artifacts.PARAMETER_PREFIX}{name}": value for name, value in settings.items()}
    both = named.keys() & run.data.params.keys()
    # Numbers are logged as Python prints them.
    return all(run.data.params[name] in {show(named[name]), str(named[name])} for name in both)


def _downloaded(run: "Run", output: Path, store: MlflowBackend) -> FinishedRun | None:
    """Return a run of the server; None where its code is another, or its files cannot be downloaded."""
    try:
        facts = fetch_artifacts(store.client, run.info.run_id, _FACTS, output)
        if read_object(facts / artifacts.ENVIRONMENT).get("code_digest") != code_digest():
            return None
        return read_finished(fetch_artifacts(store.client, run.info.run_id, _NEEDED, output), run.data.metrics)
    except EmotionsError:
        return None
