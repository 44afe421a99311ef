"""The stages of a training run, in the order in which `trainer.train` calls them."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from registry import bundle, card
from trainer.config import TrainConfig
from trainer.core import artifacts, console, environment, outcome, results, runs, summary
from trainer.core.outcome import Outcome
from trainer.core.report import Picture, ReportData, write_report
from trainer.core.results import Predictions
from trainer.core.settings import flatten
from trainer.core.tracking import NullTracker, Tracker, open_run
from trainer.data import sources
from trainer.data.batches import padding_share
from trainer.data.dataset import ROLES, Dataset
from trainer.fit.build import Workshop, build_loop, build_workshop
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.distributed import Session, open_session
from trainer.fit.examples import predict_logits
from trainer.fit.loop import Fitted
from trainer.fit.plan import Plan
from trainer.model import saving
from trainer.model.config import USED_BY, LossConfig

__all__ = ["Training", "open_training"]

_STARTER_NOTE = (
    "This is the starter: a small model on a small data set, to show everything in a minute or two. "
    "For the real thing: -P preset=goemotions-minilm, or goemotions-base on a GPU."
)
# Newest and best weights, AdamW's two moments, the average, and one of each while a new state is being written.
_BYTES_PER_PARAMETER = 4 * 12


@dataclass(frozen=True)
class Training:
    """A run that has been opened: its settings, processes, tracker and screen."""

    config: TrainConfig
    session: Session
    tracker: Tracker
    folder: Path
    screen: console.Console

    def load_data(self) -> Dataset:
        """The data set of the settings, checked, and recorded as inputs of the run."""
        with self.session.accelerator.main_process_first():  # so that one process alone finds and tells what is wrong
            dataset = sources.load(self.config.data, seed=self.config.run.seed)
            outcome.check_dev(dataset.dev.observed, folds=self.config.evaluation.threshold_folds)
            bundle.check_label_names(dataset.label_names)
            if self.session.is_main:
                runs.check_data(self.folder, dataset.digests)
                runs.write_json(self.folder / artifacts.DATASET, dataset.facts())
        for role in ROLES:
            split = getattr(dataset, role)
            profile = {"rows": len(split), "labels": len(dataset.label_names)}
            self.tracker.log_dataset(dataset.name, split.digest, role, dataset.source, profile)
        digests = {f"{artifacts.TAG_DATA_DIGEST}.{role}": digest for role, digest in dataset.digests.items()}
        self.tracker.set_tags(digests)
        return dataset

    def build(self, dataset: Dataset) -> Workshop:
        """An untrained model and encoded splits. Fails early when the disk has no room for checkpoints."""
        cache = self.folder.parent / ".cache"
        with self.session.accelerator.main_process_first():  # it fills the cache, the others read it
            workshop = build_workshop(dataset, self.config.data, self.config.encoder, cache=cache)
            if self.session.is_main:
                runs.check_disk(self.folder, workshop.num_parameters * _BYTES_PER_PARAMETER)
        self.session.separate(self.config.run.seed)
        return workshop

    def announce(self, dataset: Dataset, workshop: Workshop) -> None:
        """Say on the screen and in the run what is going to happen."""
        fit = self.config.fit
        lengths = workshop.examples["train"].encoded.lengths
        plan = Plan(lengths, fit, self.config.run.seed)
        padding = padding_share(plan.epoch(0), lengths)
        size = f"{fit.tokens_per_batch:,} pieces" if fit.tokens_per_batch else f"{fit.batch_size} rows"
        truncated = workshop.examples["train"].encoded.truncation_rate
        self.tracker.set_tags({artifacts.TAG_ATTENTION: workshop.attention})
        self.tracker.log_metrics({"data/padding_share": padding, "data/truncation_rate": truncated}, 0)
        self.screen.show_plan(
            {
                "data": {
                    "data set": f"{dataset.name} ({len(dataset.label_names)} labels)",
                    "rows": ", ".join(f"{role} {len(getattr(dataset, role)):,}" for role in ROLES),
                    "also in train": _overlap_words(dataset),
                    "cut at max_length": f"{truncated:.2%} of train",
                    "padding": f"{padding:.1%}",
                },
                "model": {
                    "encoder": f"{self.config.encoder.model} ({workshop.num_parameters / 1e6:.1f} M parameters)",
                    "attention": workshop.attention,
                    "loss": self.config.objective.loss,
                },
                "training": {
                    "device": f"{self.session.device_name}, {self.session.num_processes} process(es)",
                    "precision": self.session.precision,
                    "steps": f"{plan.total_steps:,} of {size}, {fit.epochs} epochs",
                    "results": str(self.folder),
                },
            },
            hint=_STARTER_NOTE if self.config.data.dataset == sources.STARTER else "",
        )
        if workshop.attention == "stock" and self.config.encoder.attention == "auto":
            self.screen.show_warning(
                "attention is that of transformers: there is no faster one for talking heads, or without relative "
                "attention."
            )
        for name in _idle_settings(self.config.objective):
            self.screen.show_warning(f"{name} is set, but loss={self.config.objective.loss} does not use it.")

    def fit(self, dataset: Dataset, workshop: Workshop) -> Fitted:
        """Train, and return the weights that dev favours."""
        loop = build_loop(
            workshop,
            dataset,
            self.config.objective,
            self.config.fit,
            self.session,
            self.tracker,
            seed=self.config.run.seed,
        )
        with self.screen.progress(loop.plan.total_steps, loop.first_step) as progress:
            return loop.run(_Watcher(self.screen, progress, self.config.fit.epochs))

    def predict(self, dataset: Dataset, workshop: Workshop, fitted: Fitted) -> dict[str, Predictions]:
        """Read test, once, all processes together, and put its logits beside those of dev."""
        logits = {"dev": fitted.dev_logits}
        logits["test"] = predict_logits(
            fitted.model,
            workshop.examples["test"],
            self.session,
            max_tokens=self.config.fit.eval_batch_tokens,
            exact=True,
        )
        return {
            role: Predictions(
                logits=values,
                labels=split.labels,
                observed=split.observed,
                row_ids=split.row_ids,
                texts=split.texts,
                label_names=dataset.label_names,
            )
            for role, values in logits.items()
            for split in [getattr(dataset, role)]
        }

    def assess(self, dataset: Dataset, splits: Mapping[str, Predictions]) -> Outcome:
        """Draw the conclusions; everything that is chosen is chosen on dev."""
        evaluation = self.config.evaluation
        return outcome.assess(
            dataset.label_names,
            splits["dev"],
            splits["test"],
            policy=evaluation.threshold_policy,
            folds=evaluation.threshold_folds,
            resamples=evaluation.bootstrap_resamples,
            seed=self.config.run.seed,
        )

    def keep(
        self,
        dataset: Dataset,
        workshop: Workshop,
        fitted: Fitted,
        conclusion: Outcome,
        splits: Mapping[str, Predictions],
    ) -> None:
        """Write every result to the run folder and record it with the tracker."""
        results.write_tables(self.folder, conclusion, splits["dev"])
        for role, split in splits.items():
            results.write_predictions(self.folder, role, split)
        positives = ((dataset.train.labels >= 0.5) & dataset.train.observed).sum(axis=0)
        pictures = results.write_figures(
            self.folder, conclusion, splits, fitted.history, (positives, len(dataset.train))
        )
        self._write_report(dataset, conclusion, pictures)
        self.tracker.log_metrics(conclusion.metrics() | {"dev/best_step": fitted.best_step}, fitted.steps)
        self.tracker.log_artifacts()
        self.tracker.set_tags({"mlflow.loggedArtifacts": json.dumps([_table(name) for name in results.LOGGED_TABLES])})
        self._keep_model(workshop, fitted, conclusion)
        runs.write_json(self.folder / artifacts.OUTCOME, conclusion.metrics())
        CheckpointStore(self.folder).clear()

    def show(self, conclusion: Outcome) -> None:
        """Print the result table and where to look next."""
        self.screen.show_result(
            summary.policy_scores(conclusion),
            summary.label_scores(conclusion),
            [
                f"report:   {self.folder / artifacts.REPORT}",
                f"run:      {self.tracker.run_id}, in `mlflow ui` or on your tracking server",
                f'model:    mlflow.pyfunc.load_model("runs:/{self.tracker.run_id}/{artifacts.MODEL}")',
            ],
        )

    def _keep_model(self, workshop: Workshop, fitted: Fitted, conclusion: Outcome) -> None:
        classifier = self.folder / artifacts.CLASSIFIER
        extra = {"max_length": self.config.data.max_length, "run_id": self.tracker.run_id}
        saving.save(fitted.model, workshop.tokenizer, classifier, conclusion.label_names, extra)
        target = self.folder / artifacts.MODEL
        shutil.rmtree(target, ignore_errors=True)
        bundle.save_bundle(
            target,
            classifier,
            temperature=conclusion.temperature,
            thresholds={name: np.asarray(values) for name, values in conclusion.thresholds.items()},
            default_policy=conclusion.policy,
            max_length=self.config.data.max_length,
        )
        self.tracker.log_model(target, fitted.steps)
        if self.config.run.register:
            version = self.tracker.register(artifacts.REGISTERED_MODEL)
            self.screen.show_note(
                f"registered as {artifacts.REGISTERED_MODEL} version {version or 'to come, with sync'}"
            )

    def _write_report(self, dataset: Dataset, conclusion: Outcome, pictures: list[Path]) -> None:
        """Write the report, and the card of the model with the same scores."""
        data = ReportData(
            run_name=f"{dataset.name}, {self.config.objective.loss}, seed {self.config.run.seed}",
            run_id=self.tracker.run_id,
            finished=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            headlines=summary.headlines(conclusion),
            policies=summary.policy_scores(conclusion),
            labels=summary.label_scores(conclusion),
            settings={
                "Data set": {"source": dataset.source, "licence": dataset.licence}
                | {f"{role} digest": digest[:16] for role, digest in dataset.digests.items()},
                **{part.name: flatten(getattr(self.config, part.name)) for part in fields(self.config)},
            },
            overlap=vars(dataset.overlap),
            environment=environment.describe(),
            load_code=(
                f'import mlflow\nmodel = mlflow.pyfunc.load_model("runs:/{self.tracker.run_id}/{artifacts.MODEL}")\n'
                'model.predict(["so proud of you!"])'
            ),
            pictures=[Picture(path=path, caption=path.stem.replace("_", " ")) for path in pictures],
        )
        write_report(self.folder / artifacts.REPORT, data)
        card.write_card(self.folder, data)


@dataclass(frozen=True)
class _Watcher:
    """Brings the progress of the loop to the screen."""

    screen: console.Console
    progress: console.Progress
    epochs: int

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Move the bar."""
        self.progress.update(step, metrics)

    def evaluated(self, row: Mapping[str, float], *, best: bool) -> None:
        """Print a line per evaluation."""
        self.screen.show_epoch(
            {**row, "epoch": f"{row['epoch']:.4g}", "epochs": self.epochs, "step": int(row["step"]), "best": best}
        )


@contextmanager
def open_training(config: TrainConfig) -> Iterator[Training]:
    """The run of these settings, open on the tracking server; its status there is that of the block."""
    output = Path(config.run.output)
    settings = flatten(config)
    resumed = runs.find_resumable(output, config.run.resume, settings).name if config.run.resume else None
    session = open_session(config.fit.precision, config.run.seed)
    tags = {artifacts.TAG_PRESET: config.run.preset}
    run = open_run(output, resume=resumed, parameters=settings, tags=tags) if session.is_main else nullcontext()
    with run as tracker:
        run_id, folder = session.share((tracker.run_id, str(tracker.folder)) if tracker else ("", ""))
        screen = console.make(quiet=not session.is_main)
        if tracker:
            runs.write_json(Path(folder) / artifacts.CONFIG, settings)
            if not resumed:  # the tags, too, say where the run began
                runs.write_json(Path(folder) / artifacts.ENVIRONMENT, environment.describe())
        yield Training(config, session, tracker or NullTracker(run_id, Path(folder)), Path(folder), screen)


def _overlap_words(dataset: Dataset) -> str:
    overlap = dataset.overlap
    found = f"dev {overlap.dev_normalised}, test {overlap.test_normalised} rows"
    return f"{found}; {overlap.dropped} dropped from train"


def _idle_settings(objective: LossConfig) -> list[str]:
    default = vars(LossConfig())
    changed = {name for name, value in vars(objective).items() if value != default[name]}
    return sorted(changed - USED_BY[objective.loss] - {"loss"})


def _table(name: str) -> dict[str, Any]:
    return {"path": name, "type": "table"}
