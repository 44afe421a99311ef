"""The training loop, the same for any number of processes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.core import artifacts
from trainer.core.errors import ModelError
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.evaluation import validation_metrics
from trainer.fit.averaging import MovingAverage
from trainer.fit.batch_schedule import BatchSchedule
from trainer.fit.checkpoint import TOKEN_IDS
from trainer.fit.checkpoint_strategy import CheckpointStrategy
from trainer.fit.config import FitConfig
from trainer.fit.distributed import DistributedContext
from trainer.fit.energy import EnergyMeter, add_energy
from trainer.fit.inference import EncodedSplit, predict_logits
from trainer.fit.progress import FitResult, ProgressCallback, TrainingProgress
from trainer.fit.step import LossFunction, Stepper
from trainer.fit.step_window import StepWindow
from trainer.model.classifier import EmotionClassifier
from trainer.model.optimizations.vocabulary import active_token_ids, restore_vocabulary
from trainer.tracking.run import Tracker

__all__ = ["Loop"]


class Loop:
    """Fits a model on train, evaluates it on dev and keeps the best weights; without dev it keeps the last ones."""

    def __init__(  # noqa: PLR0913  # what a loop connects
        self,
        stepper: Stepper,
        train: EncodedSplit,
        dev: EncodedSplit | None,
        *,
        loss_function: LossFunction,
        config: FitConfig,
        context: DistributedContext,
        tracker: Tracker,
        checkpoints: CheckpointStrategy,
        batches: BatchSchedule,
    ) -> None:
        self.stepper, self.train, self.dev = stepper, train, dev
        self.config, self.context, self.tracker = config, context, tracker
        self.checkpoints, self.batches = checkpoints, batches
        self.loss_function = loss_function
        self.progress = TrainingProgress()
        # Accelerate's wrapper would run every forward pass under autocast, which the step and the evaluation choose.
        self.model: EmotionClassifier = context.accelerator.unwrap_model(stepper.model, keep_fp32_wrapper=False)
        self.average = MovingAverage(list(self.model.parameters()), config.ema_decay) if config.ema_decay else None
        self._window = StepWindow(context, train.example_ids)
        self._meter = EnergyMeter(context.device, with_processor=context.is_main)
        self._clock = time.perf_counter()

    @property
    def first_step(self) -> int:
        """Steps that earlier processes of this run took and saved."""
        return self.checkpoints.newest_step()

    def run(self, callback: ProgressCallback) -> FitResult:
        """Train to the last step, or until dev stops improving, and return the weights kept.

        Continues from the newest checkpoint of the run. Raises ModelError on a loss that is not finite.
        """
        self._restore()
        self.stepper.model.train()  # an encoder is loaded in evaluation mode, which needs less memory
        if self.progress.step == 0:  # a resumed run restores the micro batch that fitted
            self.stepper.dry_run(self.train, self.batches.longest)
        self._window.open()  # the dry run is no training time
        self._meter.lap()
        self._clock = time.perf_counter()
        for examples in self._remaining():
            self._step(examples, callback)
        return self._finish()

    def _remaining(self) -> Iterator[NDArray[np.int64]]:
        """Yield the examples of each step that is left."""
        for epoch in range(self.progress.step // self.batches.steps_per_epoch, self.config.epochs):
            # A resumed run may start inside an epoch.
            for examples in self.batches.epoch(epoch)[self.progress.step - epoch * self.batches.steps_per_epoch :]:
                if self.progress.stopped or self.progress.step == self.batches.last_step:
                    return
                yield examples

    def _step(self, examples: NDArray[np.int64], callback: ProgressCallback) -> None:
        learning_rate = float(self.stepper.scheduler.get_last_lr()[0])  # read before the step, which moves the schedule
        result = self.stepper.step(self.train, examples)
        self.progress.step += 1
        if self.progress.samples is not None:
            self.progress.samples += len(examples)
        step = self.progress.step
        if self.average:
            self.average.update(step)
        self._window.add(step, examples, result)
        evaluates = self._evaluates_at(step)
        saves = evaluates or step % self.config.checkpoint_steps == 0  # a resumed run need not repeat an evaluation
        if saves or step % self.config.log_steps == 0:
            self._log(learning_rate, callback)  # before saving: it raises when a step of the window is not finite
        if evaluates and self.dev is not None:
            self._evaluate(self.dev, callback)
        elif evaluates:
            self.progress.best_step = step
            with self._averaged():
                self._save_best({})
        if saves:
            self._checkpoint()
            self._window.open()  # the time of evaluating and saving is no training time

    def _evaluates_at(self, step: int) -> bool:
        """Return True when the weights of this step may be kept: those evaluated on dev, or without dev the last."""
        if self.dev is None:
            return step == self.batches.last_step
        steps = self.batches.steps_per_epoch
        per_epoch = min(self.config.evals_per_epoch, steps)
        within = (step - 1) % steps + 1
        return any(within == round(number * steps / per_epoch) for number in range(1, per_epoch + 1))

    def _log(self, learning_rate: float, callback: ProgressCallback) -> None:
        step = self.progress.step
        metrics = self._window.close() | {
            artifacts.TRAIN_LEARNING_RATE: learning_rate,
            artifacts.TRAIN_EPOCH: step / self.batches.steps_per_epoch,
        }
        self.progress.history.append({"step": float(step), **metrics})
        self.tracker.log_metrics(metrics, step)
        callback.on_log(step, metrics)

    def _evaluate(self, dev: EncodedSplit, callback: ProgressCallback) -> None:
        with self._averaged():
            logits = predict_logits(
                self.model, dev, self.context, max_tokens=self.config.eval_batch_tokens, exact=False
            )
            metrics = dev_metrics(logits, dev, self.loss_function, seed=self.batches.seed)
            value = metrics[artifacts.metric("dev", self.config.best_metric)]
            score = -value if self.config.best_metric == "loss" else value  # the highest score wins
            is_best = self.progress.add_score(score, patience=self.config.patience)
            if is_best:
                self._save_best(metrics)
        step = self.progress.step
        row = {"step": float(step), "epoch": step / self.batches.steps_per_epoch, **metrics}
        self.progress.history.append(row)
        self.tracker.log_metrics(metrics, step)
        callback.on_evaluation(row, best=is_best)

    def _averaged(self) -> AbstractContextManager[None]:
        """Set the weights, inside the block, to those that are evaluated and kept."""
        return self.average.applied() if self.average else nullcontext()

    def _save_best(self, metrics: Mapping[str, float]) -> None:
        step = self.progress.step
        self.checkpoints.save_best(step, self.checkpoints.state_dict(self.model), {"step": step, **metrics})

    def _add_costs(self) -> None:
        now = time.perf_counter()
        if self.progress.seconds is not None:
            self.progress.seconds += now - self._clock
        self._clock = now
        self.progress.joules = add_energy(self.progress.joules, self.context.all_gather(self._meter.lap()))

    def _checkpoint(self) -> None:
        self._add_costs()
        state = self.checkpoints.state_dict(self.model, self.stepper.optimizer) | {
            "schedule": self.stepper.scheduler.state_dict(),
            TOKEN_IDS: active_token_ids(self.model.encoder),  # the embedding's rows mean these ids
            "averages": self.average.averages if self.average else [],
            # The size of a sum changes its rounding: a resumed run repeats the bits only with this one.
            "micro_batch_size": self.stepper.micro_batch_size,
            "progress": asdict(self.progress),  # plain values, which torch.load reads with weights_only
        }
        self.checkpoints.save(self.progress.step, state, best_step=self.progress.best_step)

    def _restore(self) -> None:
        state = self.checkpoints.load()
        if state is None:
            return
        # The shapes may agree while each row belongs to another token, which would train on without an error.
        if not torch.equal(state[TOKEN_IDS], active_token_ids(self.model.encoder)):
            raise ModelError(
                "Cannot resume the run: the texts contain other tokens than when the checkpoint was saved. "
                "Restore the tokenizer of the run, or start a new run."
            )
        self.progress = TrainingProgress.restored(state["progress"])
        if "model" in state:  # a state pruned at the end of training has no weights
            self._restore_training(state)

    def _restore_training(self, state: Mapping[str, Any]) -> None:
        self.checkpoints.load_state_dict(state, self.model, self.stepper.optimizer)
        self.stepper.scheduler.load_state_dict(state["schedule"])
        # The saved one is smaller where a larger one did not fit.
        self.stepper.micro_batch_size = min(state["micro_batch_size"], self.stepper.micro_batch_size)
        if self.average:
            self.average.load(state["averages"])

    def _finish(self) -> FitResult:
        """Load the weights kept and return them with their dev logits."""
        self.checkpoints.load_state_dict(self.checkpoints.load_best(self.progress.best_step), self.model)
        restore_vocabulary(self.model.encoder)  # after loading: the saved weights have the pruned embedding
        self.model.eval()
        logits = None
        if self.dev is not None:
            max_tokens = self.config.eval_batch_tokens
            # Thresholds and temperature are fitted on these logits, and the served model computes in float32.
            logits = predict_logits(self.model, self.dev, self.context, max_tokens=max_tokens, exact=True)
        done = self.progress
        return FitResult(
            self.model, logits, done.history, done.best_step, done.step, self.batches.total_steps, done.costs()
        )


def dev_metrics(
    logits: NDArray[np.float32], dev: EncodedSplit, loss_function: LossFunction, *, seed: int
) -> dict[str, float]:
    """Return the dev metrics that select weights. logits: (n, k). F1 uses cross-fitted thresholds."""
    arrays = (torch.from_numpy(logits), torch.from_numpy(dev.labels), torch.from_numpy(dev.observed))
    loss = float(loss_function(*arrays)) / len(dev)  # as in training: a sum over labels, a mean over examples
    scores = LabelledScores(
        label_names=tuple(str(label) for label in range(logits.shape[1])),  # only the figures over all labels are read
        scores=logits,
        labels=dev.labels,
        observed=dev.observed,
        kind="logits",
    )
    # The loss depends on the loss function; the likelihood can be compared between runs of different losses.
    values = {"loss": loss, **validation_metrics(scores, seed=seed)}
    return {artifacts.metric("dev", name): value for name, value in values.items()}
