"""The stages of a training run, in the order in which `trainer.train` calls them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer import plan_summary
from trainer.config import TrainConfig
from trainer.core import artifacts, environment, run_folder, text_files
from trainer.core.settings import flatten
from trainer.data import sources
from trainer.data.dataset import ROLES, Dataset
from trainer.evaluation.evaluation import Evaluation, add_test, check_dev, evaluate_dev
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.components import Components, build_components, build_loop
from trainer.fit.distributed import DistributedContext, open_context
from trainer.fit.inference import predict_logits
from trainer.fit.profiling import measure_cost
from trainer.fit.progress import FitResult
from trainer.model import saving
from trainer.model.encoder import hub_commit
from trainer.report_data import report_data, run_note
from trainer.reporting import console, summary
from trainer.reporting.report import write_report
from trainer.runs import results
from trainer.runs.results import Predictions
from trainer.runs.retraining import SourceRun, load_source_run
from trainer.serving import model_card, packaging
from trainer.serving.scoring import Member
from trainer.tracking.connection import rely_on_event_log
from trainer.tracking.run import NullTracker, Tracker, open_run

__all__ = ["Training", "open_training"]

# Newest and best weights, AdamW's two moments, the average, and one of each while a new state is being written.
_BYTES_PER_PARAMETER = 4 * 12


@dataclass(frozen=True)
class Training:
    """A run that has been opened: its settings, processes, tracker and screen."""

    config: TrainConfig
    context: DistributedContext
    tracker: Tracker
    folder: Path
    screen: console.Console
    source_run: SourceRun | None
    """The run whose choices are taken over, where dev is trained on."""

    def load_data(self) -> Dataset:
        """The data set of the settings, checked, and recorded as inputs of the run."""
        with self.context.accelerator.main_process_first():  # so that one process alone reports a fault
            with_dev = self.source_run is not None
            dataset = sources.load(self.config.data, seed=self.config.run.seed, with_dev=with_dev)
            if self.source_run:
                self.source_run.check_data(dataset.label_names, dataset.digests)
            check_dev(dataset.dev.observed, folds=self.config.evaluation.threshold_folds)
            packaging.check_label_names(dataset.label_names)
            artifacts.check_label_names(dataset.label_names)
            if self.context.is_main:
                run_folder.check_data(self.folder, dataset.digests)
                (self.folder / artifacts.OUTCOME).unlink(missing_ok=True)  # of dev alone: the run is unfinished again
                text_files.write_json(self.folder / artifacts.DATASET, dataset.facts())
        for role in ROLES:
            split = getattr(dataset, role)
            profile = {"rows": len(split), "labels": len(dataset.label_names)}
            self.tracker.log_dataset(dataset.name, split.digest, role, dataset.source, profile)
        digests = {f"{artifacts.TAG_DATA_DIGEST}.{role}": digest for role, digest in dataset.digests.items()}
        overlap = {f"{artifacts.TAG_DATA_OVERLAP}.{name}": str(count) for name, count in dataset.overlap.counts.items()}
        self.tracker.set_tags(digests | overlap)
        return dataset

    def build(self, dataset: Dataset) -> Components:
        """An untrained model and encoded splits. Fails early when the disk has no room for checkpoints."""
        cache = self.folder.parent / ".cache"
        with self.context.accelerator.main_process_first():  # it fills the cache, the others read it
            components = build_components(dataset, self.config.data, self.config.encoder, cache=cache)
            if self.context.is_main:
                run_folder.prune_cache(cache)
                run_folder.check_disk(self.folder, components.num_parameters * _BYTES_PER_PARAMETER)
        self.context.seed_rank(self.config.run.seed)
        return components

    def announce(self, dataset: Dataset, components: Components) -> None:
        """Say on the screen and in the run what is going to happen."""
        lengths = components.splits["train"].tokens.lengths
        stop_fraction = self.source_run.stop_fraction if self.source_run else 1.0
        batches = BatchSchedule(lengths, self.config.fit, self.config.run.seed, stop_fraction)
        measured = plan_summary.measure(components, batches)
        self.tracker.set_tags({artifacts.TAG_ATTENTION: components.attention})
        if commit := hub_commit(self.config.encoder):
            self.tracker.set_tags({artifacts.TAG_MODEL_COMMIT: commit})
        self.tracker.log_metrics(measured, 0)
        is_starter = self.config.data.dataset == sources.STARTER
        self.screen.show_plan(
            {
                "data": plan_summary.data_facts(dataset, measured),
                "model": plan_summary.model_facts(self.config, components),
                "training": plan_summary.training_facts(self.config.fit, batches, self.context, self.folder),
            },
            hint=plan_summary.STARTER_NOTE if is_starter else "",
        )
        for text in plan_summary.warnings(self.config, dataset, components):
            self.screen.show_warning(text)

    def fit(self, dataset: Dataset, components: Components) -> FitResult:
        """Train, and return the weights that dev favours, or the last where dev is trained on."""
        loop = build_loop(
            components,
            dataset,
            self.config.objective,
            self.config.fit,
            self.context,
            self.tracker,
            seed=self.config.run.seed,
            stop_fraction=self.source_run.stop_fraction if self.source_run else None,
        )
        with self.screen.progress(loop.batches.last_step, loop.first_step) as progress:
            return loop.run(_ScreenCallback(self.screen, progress, self.config.fit.epochs))

    def predict(self, dataset: Dataset, components: Components, fitted: FitResult) -> dict[str, Predictions]:
        """Read test, once and if at all, all processes together, and put its logits beside those of dev."""
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
                row_ids=split.example_ids,
                texts=split.texts,
                label_names=dataset.label_names,
            )
            for role, values in logits.items()
            for split in [getattr(dataset, role)]
        }

    def assess(self, dataset: Dataset, splits: Mapping[str, Predictions]) -> Evaluation:
        """Draw the conclusions; everything that is chosen is chosen on dev."""
        evaluation, seed = self.config.evaluation, self.config.run.seed
        if self.source_run:
            conclusion = self.source_run.evaluation
        else:
            policy, folds = evaluation.threshold_policy, evaluation.threshold_folds
            conclusion = evaluate_dev(splits["dev"], policy=policy, folds=folds, seed=seed)
        if "test" not in splits:
            return conclusion
        return add_test(conclusion, splits["test"], resamples=evaluation.bootstrap_resamples, seed=seed)

    def keep(
        self,
        dataset: Dataset,
        components: Components,
        fitted: FitResult,
        conclusion: Evaluation,
        splits: Mapping[str, Predictions],
    ) -> None:
        """Write every result to the run folder and record it with the tracker."""
        results.write_tables(self.folder, conclusion, splits.get("dev"))
        for role, split in splits.items():
            results.write_predictions(self.folder, role, split)
        if self.config.run.read_test:
            self._write_report(dataset, conclusion, self._draw(dataset, fitted, conclusion, splits))
        metrics = conclusion.metrics() | measure_cost(fitted.model, components.splits["dev"], self.context.device)
        if not self.source_run:
            metrics |= {artifacts.BEST_STEP: fitted.best_step, artifacts.SCHEDULE_STEPS: fitted.schedule_steps}
        self.tracker.log_metrics(metrics, fitted.steps)
        self.tracker.log_artifacts()
        self.tracker.tag_tables(results.table_names(self.folder))
        if self.config.run.read_test:
            self.tracker.set_tags({artifacts.TAG_NOTE: run_note(conclusion)})
            self._keep_model(components, fitted, conclusion)
        # A search reads the final scores there under the names of the series, as older versions wrote them.
        text_files.write_json(self.folder / artifacts.OUTCOME, metrics | conclusion.scores_by_series())
        if self.config.run.read_test:
            CheckpointStore(self.folder).clear()
        else:
            CheckpointStore(self.folder).prune_to_final()

    def show(self, conclusion: Evaluation) -> None:
        """Print the result table, or without test the scores on dev, and where to look next."""
        if not self.config.run.read_test:
            self.screen.show_note(summary.dev_scores(conclusion))
            self.screen.show_note(f"to read test and keep a model: read_test=true, resume={self.tracker.run_id}")
            return
        self.screen.show_result(
            summary.policy_scores(conclusion),
            summary.label_scores(conclusion),
            [
                f"report:   {self.folder / artifacts.REPORT}",
                f"run:      {self.tracker.run_id}, in `mlflow ui` or on your tracking server",
                f'model:    mlflow.pyfunc.load_model("runs:/{self.tracker.run_id}/{artifacts.MODEL}")',
            ],
        )

    def _draw(
        self, dataset: Dataset, fitted: FitResult, conclusion: Evaluation, splits: Mapping[str, Predictions]
    ) -> list[Path]:
        train = dataset.trained_on
        positives = ((train.labels >= 0.5) & train.observed).sum(axis=0)
        return results.write_figures(self.folder, conclusion, splits, fitted.history, (positives, len(train)))

    def _keep_model(self, components: Components, fitted: FitResult, conclusion: Evaluation) -> None:
        classifier = self.folder / artifacts.CLASSIFIER
        extra = {"max_length": self.config.data.max_length, "run_id": self.tracker.run_id}
        saving.save(fitted.model, components.tokenizer, classifier, conclusion.label_names, extra)
        target = self.folder / artifacts.MODEL
        shutil.rmtree(target, ignore_errors=True)
        packaging.save_model(
            target,
            [Member(classifier=classifier, temperature=conclusion.temperature, max_length=self.config.data.max_length)],
            thresholds={name: np.asarray(values) for name, values in conclusion.thresholds.items()},
            default_policy=conclusion.policy,
        )
        self.tracker.log_model(target, fitted.steps)
        if self.config.run.register:
            version = self.tracker.register(artifacts.REGISTERED_MODEL)
            self.screen.show_note(
                f"registered as {artifacts.REGISTERED_MODEL} version {version or 'to come, with sync'}"
            )

    def _write_report(self, dataset: Dataset, conclusion: Evaluation, pictures: list[Path]) -> None:
        """Write the report, and the card of the model with the same scores."""
        data = report_data(self.config, self.tracker.run_id, dataset, conclusion, pictures)
        write_report(self.folder / artifacts.REPORT, data)
        model_card.write_card(self.folder, data)


@dataclass(frozen=True)
class _ScreenCallback:
    """Brings the progress of the loop to the screen."""

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
def open_training(config: TrainConfig) -> Iterator[Training]:
    """The run of these settings, open on the tracking server; its status there is that of the block."""
    output = Path(config.run.output)
    settings, defaults = flatten(config), flatten(TrainConfig())
    resume, source = config.run.resume, config.run.retrain_from
    context = open_context(config.fit.precision, config.run.seed)
    resumed = source_run = None
    if context.is_main:  # the only process that needs the folder of the source run
        resumed = run_folder.find_resumable(output, resume, settings, defaults).name if resume else None
        source_run = load_source_run(output, source, settings, defaults) if source else None
    source_run = context.broadcast(source_run)
    tags = {artifacts.TAG_PRESET: config.run.preset}
    name = f"{Path(config.data.dataset).name}, {config.objective.loss}, seed {config.run.seed}"
    rely_on_event_log()
    run = (
        open_run(output, name=name, resume=resumed, parameters=settings, tags=tags)
        if context.is_main
        else nullcontext()
    )
    with run as tracker:
        run_id, folder = context.broadcast((tracker.run_id, str(tracker.folder)) if tracker else ("", ""))
        screen = console.make(quiet=not context.is_main)
        if tracker:
            if not (Path(folder) / artifacts.ENVIRONMENT).is_file():  # a resumed run keeps that of its start
                text_files.write_json(Path(folder) / artifacts.ENVIRONMENT, environment.describe())
            text_files.write_json(Path(folder) / artifacts.CONFIG, settings)  # last: with it, the run can be resumed
        told = tracker or NullTracker(run_id, Path(folder))
        yield Training(config, context, told, Path(folder), screen, source_run)
