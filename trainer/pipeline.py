"""The steps of a training run, in the order in which `trainer.train` calls them."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer import plan_summary
from trainer.config import TrainConfig, run_parameters
from trainer.core import artifacts, environment, run_folder, signals, text_files
from trainer.core.settings import flatten
from trainer.data import sources
from trainer.data.dataset import ROLES, Dataset
from trainer.data.seen_texts import SeenTexts
from trainer.evaluation.evaluation import Evaluation, add_test, check_dev, evaluate_dev
from trainer.evaluation.resampling import Resampling
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.components import Components, build_components, build_loop
from trainer.fit.distributed import DistributedContext, from_main_process, open_context
from trainer.fit.inference import predict_logits
from trainer.fit.profiling import measure_cost
from trainer.fit.progress import FitResult
from trainer.model import class_weights, saving
from trainer.model.encoder import hub_commit
from trainer.report_data import report_data, run_note
from trainer.reporting import console, summary
from trainer.reporting.optional import attempt
from trainer.reporting.report import write_report
from trainer.runs import results, tables
from trainer.runs.results import Predictions
from trainer.runs.retraining import SourceRun, load_source_run
from trainer.serving import model_card, packaging
from trainer.serving.scoring import Member
from trainer.tracking.connection import rely_on_event_log
from trainer.tracking.run import NullTracker, Tracker, open_run

__all__ = ["TrainingRun", "open_training"]

# In float32: newest and best weights, AdamW's two moments, the average, and a second copy while a state is written.
_BYTES_PER_PARAMETER = 4 * 12


@dataclass(frozen=True)
class TrainingRun:
    """An open run: its settings, processes, tracker and terminal."""

    config: TrainConfig
    context: DistributedContext
    tracker: Tracker
    folder: Path
    screen: console.Console
    source_run: SourceRun | None
    """The run whose calibration and thresholds are reused; None unless dev is trained on."""

    def load_data(self) -> Dataset:
        """Return the checked data set, and log its splits as inputs of the run."""
        with self.context.accelerator.main_process_first():  # so that only one process reports a wrong file
            dataset = sources.load(self.config.data, seed=self.config.run.seed, with_dev=self.source_run is not None)
            self._check(dataset)
            if self.context.is_main:
                run_folder.check_data(self.folder, dataset.digests)
                (self.folder / artifacts.OUTCOME).unlink(missing_ok=True)  # its scores are on dev alone
                text_files.write_json(self.folder / artifacts.DATASET, dataset.facts())
        for role in ROLES:
            split = getattr(dataset, role)
            profile = {"rows": len(split), "labels": len(dataset.label_names)}
            self.tracker.log_dataset(dataset.name, split.digest, role, dataset.source, profile, dataset.label_names)
        digests = {
            f"{artifacts.TAG_DATA_DIGEST}.{role}": digest[: artifacts.SHORT_DIGEST]
            for role, digest in dataset.digests.items()
        }
        overlap = {f"{artifacts.TAG_DATA_OVERLAP}.{name}": str(n) for name, n in dataset.overlap.counts.items() if n}
        self.tracker.set_tags(digests | overlap)
        return dataset

    def _check(self, dataset: Dataset) -> None:
        if self.source_run:
            self.source_run.check_data(dataset.label_names, dataset.digests)
        check_dev(dataset.dev.labels, dataset.dev.observed, folds=self.config.evaluation.threshold_folds)
        if self.config.run.register:  # now, not after the training
            self.tracker.check_registration(self.config.run.registered_model, dataset.label_names)

    def build(self, dataset: Dataset) -> Components:
        """Return an untrained model and encoded splits, after a check that the disk has room for checkpoints."""
        cache = self.folder.parent / ".cache"
        with self.context.accelerator.main_process_first():  # the first process fills the cache for the others
            components = build_components(dataset, self.config.data, self.config.model, cache=cache)
            if self.context.is_main:
                run_folder.prune_cache(cache)
                run_folder.prune_finished(self.folder.parent)
                run_folder.check_disk(self.folder, components.num_parameters * _BYTES_PER_PARAMETER)
        self.context.seed_rank(self.config.run.seed)  # after the build: all processes draw the same first weights
        return components

    def print_plan(self, dataset: Dataset, components: Components) -> None:
        """Print and log the facts of the data, the model and the steps."""
        lengths = components.splits["train"].tokens.lengths
        stop_fraction = self.source_run.stop_fraction if self.source_run else 1.0
        batches = BatchSchedule(lengths, self.config.fit, self.config.run.seed, stop_fraction)
        tokens = plan_summary.token_facts(components, batches)
        self.tracker.set_tags(
            {
                artifacts.TAG_ATTENTION: components.attention,
                artifacts.TAG_DATA_TRUNCATED: tokens["truncated"],
                artifacts.TAG_DATA_PADDING: tokens["padding"],
            }
        )
        if commit := hub_commit(self.config.model):
            self.tracker.set_tags({artifacts.TAG_MODEL_COMMIT: commit})
        self.screen.show_plan(
            {
                "data": plan_summary.data_facts(dataset, tokens),
                "model": plan_summary.model_facts(self.config.model.model, self.config.loss.loss, components),
                "training": plan_summary.training_facts(self.config.fit, batches, self.context, self.folder),
            },
            hint=plan_summary.hint(self.config),
        )
        for text in plan_summary.warnings(self.config, dataset, components):
            self.screen.show_warning(text)

    def fit(self, dataset: Dataset, components: Components) -> FitResult:
        """Train, and return the best weights by dev, or the last weights when dev is trained on."""
        loop = build_loop(
            components,
            dataset,
            self.config.loss,
            self.config.fit,
            self.context,
            self.tracker,
            seed=self.config.run.seed,
            stop_fraction=self.source_run.stop_fraction if self.source_run else None,
        )
        with self.screen.progress(loop.batches.last_step, loop.first_step) as progress:
            return loop.run(_ScreenCallback(self.screen, progress, self.config.fit.epochs))

    def predict(self, dataset: Dataset, components: Components, fitted: FitResult) -> dict[str, Predictions]:
        """Return role → predictions: of dev from training, and of test, which all processes read together here."""
        logits = {} if fitted.dev_logits is None else {"dev": fitted.dev_logits}
        if self.config.run.read_test:
            logits["test"] = predict_logits(
                fitted.model,
                components.splits["test"],
                self.context,
                max_tokens=self.config.fit.eval_batch_tokens,
                exact=True,
            )
        return {
            role: Predictions(
                scores=values,
                labels=split.labels,
                observed=split.observed,
                example_ids=split.example_ids,
                texts=split.texts,
                columns=split.columns,
                group_column=self.config.data.group_column,
                label_names=dataset.label_names,
            )
            for role, values in logits.items()
            for split in [getattr(dataset, role)]
        }

    def evaluate(self, predictions: Mapping[str, Predictions]) -> Evaluation:
        """Return calibration and thresholds, both chosen on dev, and the scores of the splits."""
        config, seed = self.config.evaluation, self.config.run.seed
        if self.source_run:
            evaluation = self.source_run.evaluation
        else:
            evaluation = evaluate_dev(
                predictions["dev"],
                calibration=config.calibration,
                policy=config.threshold_policy,
                folds=config.threshold_folds,
                seed=seed,
            )
            for text in summary.missing_calibration(evaluation):
                self.screen.show_warning(text)
        if "test" not in predictions:
            return evaluation
        test = predictions["test"]
        return add_test(evaluation, test, resamples=config.bootstrap_resamples, seed=seed, groups=test.groups)

    def save(
        self,
        dataset: Dataset,
        components: Components,
        fitted: FitResult,
        evaluation: Evaluation,
        predictions: Mapping[str, Predictions],
    ) -> None:
        """Write every result to the run folder, and log it: first the scores and the model, then pictures and pages."""
        results.write_tables(self.folder, evaluation, predictions.get("dev"))
        for role, split in predictions.items():
            results.write_predictions(self.folder, role, split)
        metrics = evaluation.metrics() | measure_cost(fitted.model, components.splits["dev"], self.context.device)
        metrics |= fitted.costs
        if not self.source_run:
            metrics |= {artifacts.BEST_STEP: fitted.best_step, artifacts.SCHEDULE_STEPS: fitted.schedule_steps}
        tables.write_scores(self.folder, metrics)
        SeenTexts.of(dataset).write(self.folder / artifacts.SEEN_TEXTS)
        roles = [role for role in ("test", "dev") if role in predictions]
        judged = [tables.JudgedSplit.of(role, predictions[role], evaluation) for role in roles]
        tables.write_errors(self.folder, judged)
        tables.write_missed_labels(self.folder, judged)
        # At step 0 MLflow draws a number as a bar, at any other step as a curve of one point.
        self.tracker.log_metrics({name: metrics[name] for name in artifacts.HEADLINES if name in metrics}, 0)
        if self.config.run.read_test:
            self._save_model(components, fitted, evaluation)
            self._write_details(judged)
            self._write_report(dataset, fitted, evaluation, predictions)
        self.tracker.log_artifacts()
        self.tracker.tag_tables(results.table_names(self.folder))
        self.tracker.set_tags({artifacts.TAG_NOTE: run_note(self.config, evaluation, self.tracker.page)})
        if self.config.run.register:
            self._register()  # after the model card, which describes the version
        # After all other results, because a run with this file counts as complete, and before checkpoints are deleted,
        # because a process that is killed earlier needs them to resume.
        text_files.write_json(self.folder / artifacts.OUTCOME, metrics)
        if self.config.run.read_test:
            CheckpointStore(self.folder).clear()
        else:
            CheckpointStore(self.folder).prune_to_final()

    def print_results(self, evaluation: Evaluation) -> None:
        """Print the scores, and where the report, the run and the model are."""
        if not self.config.run.read_test:
            self.screen.show_note(summary.dev_scores(evaluation))
            command = f"{run_folder.resume_command(self.folder)} -P read_test=true"
            self.screen.show_note(f"to read test and save a model: {command}")
            return
        report = run_folder.found_again(self.folder) / artifacts.REPORT
        self.screen.show_result(
            summary.policy_scores(evaluation),
            summary.label_scores(evaluation),
            [
                *([f"report:   {report}"] if report.is_file() else []),
                f"run:      {self.tracker.run_id}, in `mlflow ui` or on your tracking server",
                f'model:    mlflow.pyfunc.load_model("runs:/{self.tracker.run_id}/{artifacts.MODEL}")',
            ],
        )

    def _write_details(self, judged: Sequence[tables.JudgedSplit]) -> None:
        """Write the slices of test, and the suspected label errors of dev; tables that fail cost a warning."""
        resampling = Resampling(num_resamples=self.config.evaluation.bootstrap_resamples, seed=self.config.run.seed)
        test, dev = ([split for split in judged if split.role == role] for role in ("test", "dev"))
        attempt(f"the table {artifacts.SLICES}", lambda: tables.write_slices(self.folder, test, resampling))
        if dev:  # predicted only by a model that was not trained on it
            attempt(f"the table {artifacts.LABEL_ERRORS}", lambda: tables.write_label_errors(self.folder, dev))

    def _write_report(
        self, dataset: Dataset, fitted: FitResult, evaluation: Evaluation, predictions: Mapping[str, Predictions]
    ) -> None:
        """Draw the figures, and write the report and the model card; one that fails costs a warning."""
        train = dataset.trained_on
        positives = ((train.labels >= 0.5) & train.observed).sum(axis=0)
        about = (self.folder, evaluation, predictions, fitted.history, (positives, len(train)))
        figures = attempt("the figures", lambda: results.write_figures(*about)) or []
        content = (self.config, self.folder, dataset, evaluation, fitted.history, figures)
        data = attempt("the content of the report", lambda: report_data(*content))
        if data is not None:
            attempt(f"the report {artifacts.REPORT}", lambda: write_report(self.folder / artifacts.REPORT, data))
            attempt(f"the model card {artifacts.MODEL_CARD}", lambda: model_card.write_card(self.folder, data))

    def _save_model(self, components: Components, fitted: FitResult, evaluation: Evaluation) -> None:
        classifier, max_length = self.folder / artifacts.CLASSIFIER, self.config.data.max_length
        extra = {"max_length": max_length, "run_id": self.tracker.run_id}
        for left in self.folder.glob(f".{artifacts.CLASSIFIER}.*"):  # by a process that was killed while it saved
            shutil.rmtree(left)
        saving.save(fitted.model, components.tokenizer, classifier, evaluation.label_names, extra)
        target = self.folder / artifacts.MODEL
        shutil.rmtree(target, ignore_errors=True)  # of a stopped process: MLflow saves into no folder with content
        packaging.save_model(
            target,
            [Member(classifier=classifier, calibration=evaluation.calibration, max_length=max_length)],
            thresholds={name: np.asarray(values) for name, values in evaluation.thresholds.items()},
            default_policy=evaluation.policy,
            seen_texts=self.folder / artifacts.SEEN_TEXTS,
        )
        self.tracker.log_model(target, fitted.steps)

    def _register(self) -> None:
        version = self.tracker.register(self.config.run.registered_model)
        if version is None and self.tracker.refusal:
            return  # the end of the run reports it
        state = f"version {version}" if version else "a version that the tracking server has not confirmed yet"
        self.screen.show_note(f"registered as {self.config.run.registered_model}, {state}")


@dataclass(frozen=True)
class _ScreenCallback:
    """Prints the progress of the training loop."""

    screen: console.Console
    progress: console.Progress
    epochs: int

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Move the bar."""
        self.progress.update(step, metrics)

    def on_evaluation(self, row: Mapping[str, float], *, best: bool) -> None:
        """Print a line per evaluation."""
        self.screen.show_epoch(
            {**row, "epoch": f"{row['epoch']:.4g}", "epochs": self.epochs, "step": int(row["step"]), "best": best}
        )


@contextmanager
def open_training(config: TrainConfig) -> Iterator[TrainingRun]:
    """Open a run with these settings on the tracking server; it ends with the status of the block."""
    config = from_main_process(config)  # a process on another machine has no run folder to read settings from
    output = Path(config.run.output)
    settings, defaults = flatten(config), flatten(TrainConfig())
    context = open_context(config.fit.precision, config.run.seed)
    resumed = source_run = None
    if context.is_main:  # only this process may see the folders of earlier runs
        class_weights.check_file(config.loss)
        run_folder.check_output(output)
        if config.run.resume:
            resumed = run_folder.find_resumable(output, config.run.resume, settings, defaults).name
        if config.run.retrain_from:
            source_run = load_source_run(output, config.run.retrain_from, settings, defaults)
    source_run = context.broadcast(source_run)
    rely_on_event_log()
    run: AbstractContextManager[Tracker | None] = nullcontext()
    if context.is_main:
        tags = {artifacts.TAG_PRESET: config.run.preset}
        facts = environment.describe()  # takes a second, in which no run is open that a kill would leave without it

        def prepare(folder: Path) -> None:
            run_folder.write_start(folder, settings, facts)

        parameters = run_parameters(config)
        run = open_run(output, prepare, name=config.name, resume=resumed, parameters=parameters, tags=tags)
    with run as tracker:
        run_id, folder = context.broadcast((tracker.run_id, str(tracker.folder)) if tracker else ("", ""))
        screen = console.make(quiet=not context.is_main)
        if tracker:
            tracker.store_artifact(artifacts.CONFIG)
        any_tracker = tracker or NullTracker(run_id, Path(folder))
        try:
            yield TrainingRun(config, context, any_tracker, Path(folder), screen, source_run)
        except BaseException as error:
            if signals.is_stop(error):
                screen.show_note("Stopped. To continue:")
                screen.show_note(run_folder.resume_command(Path(folder)))
            raise
