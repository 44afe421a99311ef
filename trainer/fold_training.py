"""The steps of a cross-validation: one run per fold, one after another, below a run with their results together.

This process trains nothing. Each fold is a child process `python -m trainer.train`, which starts its own workers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.config import PRESETS, TrainConfig, run_parameters, unread_settings
from trainer.core import artifacts, environment, run_folder, signals, text_files
from trainer.core.child_process import FIRST_SIGNAL_STATUS, child_command, run_to_end
from trainer.core.errors import DataError, EmotionsError, SettingsError, TrackingError
from trainer.core.presets import load_preset
from trainer.core.settings import as_argv, flatten, from_flat
from trainer.data import sources
from trainer.data.dataset import ROLES, Dataset
from trainer.evaluation.evaluation import Evaluation, check_dev, evaluate_dev
from trainer.evaluation.resampling import Resampling
from trainer.fold_results import Fold, FoldResults
from trainer.reporting import console
from trainer.reporting.optional import attempt
from trainer.runs import out_of_fold, results, tables
from trainer.runs.tables import JudgedSplit
from trainer.tracking.backend import MlflowBackend
from trainer.tracking.connection import connect, readable_errors, rely_on_event_log
from trainer.tracking.event_log import wait_until_released
from trainer.tracking.nested import create_nested_run
from trainer.tracking.run import Tracker, open_run

__all__ = ["CrossValidation", "open_cross_validation"]

_COMMAND = "folds"
_OF_THE_PARENT = ("resume", "retrain_from", "register", "registered_model", "fold")


@dataclass(frozen=True)
class CrossValidation:
    """An open parent run: its settings, tracker and terminal."""

    config: TrainConfig
    tracker: Tracker
    screen: console.Console

    def load_data(self) -> tuple[Dataset, list[Fold]]:
        """Return the data set with the splits of its source, and the folds; every fold is checked before any trains."""
        data, seed = self.config.data, self.config.run.seed
        loaded = sources.load_folds(data, seed=seed)
        dataset = next(loaded)
        run_folder.check_data(self.tracker.folder, dataset.digests)
        text_files.write_json(self.tracker.folder / artifacts.DATASET, dataset.facts())
        for role in ROLES:
            split = getattr(dataset, role)
            profile = {"rows": len(split), "labels": len(dataset.label_names)}
            self.tracker.log_dataset(dataset.name, split.digest, role, dataset.source, profile, dataset.label_names)
        return dataset, [self._check_fold(number, fold) for number, fold in enumerate(loaded, start=1)]

    def print_plan(self, dataset: Dataset, folds: list[Fold]) -> None:
        """Print the facts of the data and the folds."""
        sizes = {
            f"fold {fold.number}": f"train {fold.num_trained_on:,}, dev {len(fold.held_out):,} examples"
            for fold in folds
        }
        units = f"equal texts and groups of `{group}` stay whole" if (group := self.config.data.group_column) else ""
        self.screen.show_plan(
            {
                "data": {
                    "data set": f"{dataset.name} ({len(dataset.label_names)} labels)",
                    "examples": f"train and dev together {sum(len(fold.held_out) for fold in folds):,}, "
                    f"test {len(dataset.test):,}",
                    **({"groups": units} if units else {}),
                },
                "folds": sizes,
            },
            hint=f"To continue after a stop: {run_folder.resume_command(self.tracker.folder)}",
        )

    def train(self, folds: list[Fold]) -> None:
        """Train the folds that have no results yet. Raises EmotionsError when one fails; the finished ones are kept."""
        for fold in folds:
            run_id = self._runs.get(fold.number)
            name = f"fold {fold.number} of {len(folds)}"
            if run_id and self._is_finished(run_id):
                self.screen.show_note(f"{name}: run {run_id} is finished")
                continue
            run_id = run_id or self._create_run(fold.number, name)
            self.screen.show_note(f"\n{name}: run {run_id}")
            self._train_fold(fold.number, run_id, name)

    def evaluate(self, folds: list[Fold]) -> FoldResults:
        """Return calibration and thresholds of the out-of-fold predictions, with the scores of all folds."""
        folders = {number: self._output / run_id for number, run_id in sorted(self._runs.items())}
        pooled = out_of_fold.pool_runs(folders)
        if set(pooled.example_ids) != {example for fold in folds for example in fold.held_out}:
            raise DataError(
                "The runs of the folds have predicted other examples than the data set has now. Restore the data, or "
                "start a new run."
            )
        scores = {number: run_folder.read_object(folder / artifacts.OUTCOME) for number, folder in folders.items()}
        chosen = self._choose(pooled)
        return FoldResults(folds=folds, runs=self._runs, scores=scores, pooled=pooled, evaluation=chosen)

    def save(self, found: FoldResults, dataset: Dataset) -> None:
        """Write every result to the run folder, and log it."""
        folder = self.tracker.folder
        results.write_tables(folder, found.evaluation, found.pooled)
        results.write_predictions(folder, artifacts.OUT_OF_FOLD, found.pooled)
        found.write_table(folder)
        self._write_mistakes(found)
        self.tracker.log_metrics(found.headlines(), 0)
        found.write_report(folder, self.config, dataset, self._final_model_command)
        self.tracker.log_artifacts()
        self.tracker.tag_tables([artifacts.FOLDS, *results.table_names(folder)])
        self.tracker.set_tags({artifacts.TAG_NOTE: found.note(self.tracker.page)})
        text_files.write_json(folder / artifacts.OUTCOME, found.metrics())  # last: with it, the run is complete

    def _write_mistakes(self, found: FoldResults) -> None:
        """Write mistakes, slices and suspected label errors of the held-out examples, by cross-fitted choices."""
        folder, settings, chosen = self.tracker.folder, self.config, found.evaluation
        scores, predictions = out_of_fold.cross_fitted(
            found.pooled, method=chosen.calibration_choice.method, strength=chosen.choice.strength
        )
        fitted = JudgedSplit.of(artifacts.OUT_OF_FOLD, found.pooled, chosen)
        held_out = replace(fitted, scores=scores, predictions=predictions[chosen.policy])
        tables.write_errors(folder, [held_out])
        tables.write_missed_labels(folder, [held_out])
        resampling = Resampling(num_resamples=settings.evaluation.bootstrap_resamples, seed=settings.run.seed)
        attempt(f"the table {artifacts.SLICES}", lambda: tables.write_slices(folder, [held_out], resampling))
        attempt(f"the table {artifacts.LABEL_ERRORS}", lambda: tables.write_label_errors(folder, [held_out]))

    def print_results(self, found: FoldResults) -> None:
        """Print the scores of the folds and of all together, and what comes next."""
        for line in found.lines():
            self.screen.show_note(line)
        self.screen.show_note(f"report:   {run_folder.found_again(self.tracker.folder) / artifacts.REPORT}")
        self.screen.show_note(f"run:      {self.tracker.run_id}")
        self.screen.show_note("No model is kept of all examples. To train one with these thresholds and calibration:")
        self.screen.show_note(self._final_model_command)

    @property
    def _output(self) -> Path:
        return Path(self.config.run.output)

    @cached_property
    def _runs(self) -> dict[int, str]:
        return run_folder.read_fold_runs(self.tracker.folder)

    @cached_property
    def _store(self) -> MlflowBackend:
        return connect()

    @property
    def _final_model_command(self) -> str:
        return run_folder.retrain_command(self.tracker.folder, _changed(self.config))

    def _check_fold(self, number: int, dataset: Dataset) -> Fold:
        try:
            check_dev(dataset.dev.labels, dataset.dev.observed, folds=self.config.evaluation.threshold_folds)
        except DataError as error:
            raise DataError(f"Fold {number} of {self.config.data.folds} cannot be held out: {error}") from error
        return Fold(number, dataset.dev.example_ids, len(dataset.train))

    def _is_finished(self, run_id: str) -> bool:
        return run_folder.has_results(self._output / run_id, with_test=self.config.run.read_test)

    def _create_run(self, number: int, name: str) -> str:
        with readable_errors(self._store):
            parent = self._store.run(self.tracker.run_id)
        run_id = create_nested_run(self._store, parent, name, {})
        self._runs[number] = run_id
        text_files.write_json(self.tracker.folder / artifacts.FOLD_RUNS, self._runs)
        return run_id

    def _train_fold(self, number: int, run_id: str, name: str) -> None:
        folder = self._output / run_id
        wait_until_released(folder)
        values, variables = self._child_settings(number), {"MLFLOW_RUN_ID": run_id}
        if (folder / artifacts.CONFIG).is_file():
            values, variables = {**values, "resume": run_id}, {}
        status = run_to_end(child_command("trainer.train", as_argv(values)), variables)
        if status == 0:
            return
        self._end_run(run_id, "FAILED" if 0 < status <= FIRST_SIGNAL_STATUS else "KILLED")
        raise EmotionsError(
            f"{name.capitalize()} failed (run {run_id}, exit status {status}); its error is above. Finished folds are "
            f"kept. Fix the cause, then run: {run_folder.resume_command(self.tracker.folder)}"
        )

    def _child_settings(self, number: int) -> dict[str, Any]:
        config = replace(self.config, data=replace(self.config.data, fold=number))
        unread = unread_settings(config)
        values = {name: value for name, value in flatten(config).items() if name not in (*unread, *_OF_THE_PARENT)}
        return {**values, "fold": number}

    def _end_run(self, run_id: str, status: str) -> None:
        """End the run of a child that could not do so itself. Only warns when the server does not answer."""
        try:
            with readable_errors(self._store):
                if self._store.run(run_id).info.status == "RUNNING":
                    self._store.client.set_terminated(run_id, status)
        except TrackingError as error:
            self.screen.show_warning(f"run {run_id} may be RUNNING on the server: {error}")

    def _choose(self, pooled: results.Predictions) -> Evaluation:
        settings = self.config.evaluation
        chosen = evaluate_dev(
            pooled,
            calibration=settings.calibration,
            policy=settings.threshold_policy,
            folds=settings.threshold_folds,
            seed=self.config.run.seed,
        )
        role = artifacts.OUT_OF_FOLD
        return replace(
            chosen,
            fitted_on=role,
            per_label={role: chosen.per_label["dev"]},
            calibration_errors={role: chosen.calibration_errors["dev"]},
        )


@contextmanager
def open_cross_validation(config: TrainConfig) -> Iterator[CrossValidation]:
    """Open the parent run with these settings on the tracking server; it ends with the status of the block."""
    for name in ("register", "retrain_from"):
        if getattr(config.run, name):
            raise SettingsError(f"`{name}` has no effect with `folds` and without `fold`. Leave it out.")
    output, flat = Path(config.run.output), flatten(config)
    run_folder.check_output(output)
    resumed = None
    if config.run.resume:
        resumed = run_folder.find_resumable(output, config.run.resume, flat, flatten(TrainConfig())).name
    rely_on_event_log()
    facts = environment.describe()

    def prepare(folder: Path) -> None:
        run_folder.write_start(folder, flat, facts)

    tags = {artifacts.TAG_PRESET: config.run.preset, artifacts.TAG_COMMAND: _COMMAND}
    name = f"{config.name}-{config.data.folds}-folds"
    parameters = run_parameters(config)
    with open_run(output, prepare, name=name, resume=resumed, parameters=parameters, tags=tags) as tracker:
        screen = console.make()
        try:
            yield CrossValidation(config, tracker, screen)
        except BaseException as error:
            if signals.is_stop(error):
                screen.show_note("Stopped. To continue with all folds:")
                screen.show_note(run_folder.resume_command(tracker.folder))
            raise


def _changed(config: TrainConfig) -> Mapping[str, Any]:
    """Return the settings that differ from those of the preset, without those of this run and of folds."""
    preset = load_preset(config.run.preset, PRESETS)
    of_preset = flatten(from_flat(TrainConfig, {**preset, "preset": config.run.preset}))
    left_out = {*_OF_THE_PARENT, "folds", "read_test", "output", *unread_settings(config)}
    changed = {
        name: value for name, value in flatten(config).items() if name not in left_out and value != of_preset[name]
    }
    return {"preset": config.run.preset, **changed}
