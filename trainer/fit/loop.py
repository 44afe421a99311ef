"""The training loop: one for any number of processes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.core import artifacts
from trainer.core.errors import ModelError
from trainer.evaluation import evaluation
from trainer.fit.batch_schedule import Plan
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.config import FitConfig
from trainer.fit.distributed import Session, random_states, restore_random_states
from trainer.fit.inference import Examples, predict_logits
from trainer.fit.optimizer import MovingAverage
from trainer.fit.step import LossFunction, Stepper
from trainer.model.classifier import EmotionClassifier
from trainer.model.optimizations.vocabulary import restore_vocabulary, used_pieces
from trainer.tracking.run import Tracker

__all__ = ["FitResult", "Loop", "Progress", "Watcher"]


class Watcher(Protocol):
    """Shows a person how training goes."""

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called every few steps with the point just logged."""

    def evaluated(self, row: Mapping[str, float], *, best: bool) -> None:
        """Called after each evaluation with its row of the history."""


@dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint."""

    step: int = 0
    evaluations: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_since_best: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """What training leaves: the model with the weights kept, and the points of all curves by step."""

    model: EmotionClassifier
    dev_logits: NDArray[np.float32] | None
    """(n, k); None when there was no dev."""
    history: list[dict[str, float]]
    best_step: int
    steps: int
    schedule_steps: int
    """Steps of the whole schedule, of which `steps` were taken."""


class Loop:
    """Fits a model on train rows, evaluates on dev rows, keeps the best weights; without dev it keeps the last."""

    def __init__(  # noqa: PLR0913  # what a loop connects
        self,
        stepper: Stepper,
        train: Examples,
        dev: Examples | None,
        *,
        loss_function: LossFunction,
        config: FitConfig,
        session: Session,
        tracker: Tracker,
        store: CheckpointStore,
        plan: Plan,
    ) -> None:
        self.stepper, self.train, self.dev = stepper, train, dev
        self.config, self.session, self.tracker, self.store = config, session, tracker, store
        self.loss_function = loss_function
        self.plan = plan
        self.progress = Progress()
        # Without Accelerate's wrapper, which would put every forward pass under autocast: we say ourselves where.
        self.model: EmotionClassifier = session.accelerator.unwrap_model(stepper.model, keep_fp32_wrapper=False)
        self.average = MovingAverage(list(self.model.parameters()), config.ema_decay) if config.ema_decay else None
        self._window: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self._window_started = time.perf_counter()
        self._window_rows = 0

    @property
    def first_step(self) -> int:
        """Steps that an earlier process of this run has taken and kept."""
        return self.store.newest_step() or 0

    def run(self, watcher: Watcher) -> FitResult:
        """Train to the last step, or until dev no longer improves, and return the weights to keep.

        Takes up the newest checkpoint of the run when there is one. Raises ModelError on a loss that is not finite.
        """
        self._restore()
        self.stepper.model.train()  # an encoder comes in evaluation mode, which needs other memory than training
        if self.progress.step == 0:
            self.stepper.rehearse(self.train, self.plan.longest)
        self._open_window()
        for rows in self._remaining():
            self._step(rows, watcher)
        return self._best()

    def _remaining(self) -> Iterator[NDArray[np.int64]]:
        """Rows of each step still to take; ends once dev no longer improves, or at the last step."""
        for epoch in range(self.progress.step // self.plan.steps_per_epoch, self.config.epochs):
            for rows in self.plan.epoch(epoch)[self.progress.step - epoch * self.plan.steps_per_epoch :]:
                if self.progress.stopped or self.progress.step == self.plan.last_step:
                    return
                yield rows

    def _step(self, rows: NDArray[np.int64], watcher: Watcher) -> None:
        rate = float(self.stepper.schedule.get_last_lr()[0])
        result = self.stepper.step(self.train, rows)
        self.progress.step += 1
        step = self.progress.step
        if self.average:
            self.average.update(step)
        self._window.append((step, result.loss, result.grad_norm))
        self._window_rows += len(rows)
        evaluates = self._evaluates_at(step)
        saves = evaluates or step % self.config.checkpoint_steps == 0
        if saves or step % self.config.log_steps == 0:
            self._close_window(rate, watcher)  # first, so that weights of a broken step are never kept
        if evaluates and self.dev is not None:
            self._evaluate(self.dev, watcher)
        elif evaluates:
            self.progress.best_step = step
            with self._averaged():
                self._save_best({})
        if saves:
            self._checkpoint()
            self._open_window()

    def _evaluates_at(self, step: int) -> bool:
        """Whether the weights after this step may be kept: those judged on dev, or without dev the last."""
        if self.dev is None:
            return step == self.plan.last_step
        per_epoch = min(self.config.evals_per_epoch, self.plan.steps_per_epoch)
        within = (step - 1) % self.plan.steps_per_epoch + 1
        return any(within == round(part * self.plan.steps_per_epoch / per_epoch) for part in range(1, per_epoch + 1))

    def _open_window(self) -> None:
        self._window_started, self._window_rows = time.perf_counter(), 0

    def _close_window(self, rate: float, watcher: Watcher) -> None:
        """Log the points since the last call. The device is read here alone, once for all of them."""
        seconds = time.perf_counter() - self._window_started
        losses = self.session.sum(torch.stack([loss for _, loss, _ in self._window])).cpu().numpy()
        norms = torch.stack([norm for _, _, norm in self._window]).cpu().numpy()
        steps = [step for step, _, _ in self._window]
        self._window.clear()
        broken = [step for step, loss, norm in zip(steps, losses, norms, strict=True) if not np.isfinite(loss + norm)]
        if broken:
            self._raise_not_finite(broken[0], float(losses[steps.index(broken[0])]))
        point = {
            artifacts.TRAIN_LOSS: float(losses.sum()) / self._window_rows,
            artifacts.TRAIN_LEARNING_RATE: rate,
            artifacts.TRAIN_GRAD_NORM: float(norms.mean()),
            artifacts.TRAIN_SAMPLES_PER_SECOND: self._window_rows / seconds,
            artifacts.TRAIN_EPOCH: self.progress.step / self.plan.steps_per_epoch,
        }
        self.progress.history.append({"step": float(self.progress.step), **point})
        self.tracker.log_metrics(point, self.progress.step)
        watcher.update(self.progress.step, point)
        self._open_window()

    def _raise_not_finite(self, step: int, total: float) -> None:
        epoch, position = divmod(step - 1, self.plan.steps_per_epoch)
        row_ids = [self.train.row_ids[row] for row in self.plan.epoch(epoch)[position]]
        loss = total / len(row_ids)
        raise ModelError(
            f"loss and gradient must be finite, but got {loss=} at {step=}, on rows {row_ids[:5]} "
            f"and {max(len(row_ids) - 5, 0)} more. Lower learning_rate, or use precision=fp32."
        )

    def _evaluate(self, dev: Examples, watcher: Watcher) -> None:
        with self._averaged():
            logits = predict_logits(
                self.model, dev, self.session, max_tokens=self.config.eval_batch_tokens, exact=False
            )
            metrics = dev_metrics(logits, dev, self.loss_function, seed=self.plan.seed)
            self._note_score(metrics)
            if self.progress.evaluations_since_best == 0:
                self._save_best(metrics)
        row = {"step": float(self.progress.step), "epoch": self.progress.step / self.plan.steps_per_epoch, **metrics}
        self.progress.history.append(row)
        self.tracker.log_metrics(metrics, self.progress.step)
        watcher.evaluated(row, best=self.progress.best_step == self.progress.step)

    def _averaged(self) -> AbstractContextManager[None]:
        """Inside, the weights are those that are judged and kept."""
        return self.average.applied() if self.average else nullcontext()

    def _save_best(self, metrics: Mapping[str, float]) -> None:
        if self.session.is_main:
            facts = {"step": self.progress.step, **metrics}
            self.store.save_best(self.progress.step, self.model.state_dict(), facts)

    def _note_score(self, metrics: Mapping[str, float]) -> None:
        value = metrics[artifacts.metric("dev", self.config.best_metric)]
        score = -value if self.config.best_metric == "loss" else value
        progress = self.progress
        progress.evaluations += 1
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_step, progress.evaluations_since_best = score, progress.step, 0
        else:
            progress.evaluations_since_best += 1
        progress.stopped = 0 < self.config.patience <= progress.evaluations_since_best

    def _checkpoint(self) -> None:
        self.store.save_generators(self.progress.step, self.session.rank, random_states())
        self.session.accelerator.wait_for_everyone()
        if not self.session.is_main:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.stepper.optimizer.state_dict(),
            "schedule": self.stepper.schedule.state_dict(),
            "pieces": used_pieces(self.model.encoder),
            "averages": self.average.averages if self.average else [],
            "micro_batch_size": self.stepper.micro_batch_size,
            "progress": asdict(self.progress),
        }
        self.store.save_state(self.progress.step, state)
        self.store.keep_best(self.progress.best_step)

    def _restore(self) -> None:
        state = self.store.load_state()
        if state is None:
            return
        if not torch.equal(state["pieces"], used_pieces(self.model.encoder)):
            raise ModelError(
                "a resumed run must encode its texts as it did before, but got a checkpoint of other pieces. "
                "Bring the tokenizer back, or start a new run."
            )
        self.progress = Progress(**state["progress"])
        if "model" in state:  # else training has ended, and only the best weights are left
            self._restore_training(state)

    def _restore_training(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.stepper.optimizer.load_state_dict(state["optimizer"])
        self.stepper.schedule.load_state_dict(state["schedule"])
        self.stepper.micro_batch_size = min(state["micro_batch_size"], self.stepper.micro_batch_size)
        if self.average:
            self.average.load(state["averages"])
        generators = self.store.load_generators(self.progress.step, self.session.rank)
        if generators:
            restore_random_states(generators)

    def _best(self) -> FitResult:
        self.session.accelerator.wait_for_everyone()
        weights, _ = self.store.load_best(self.progress.best_step)
        self.model.load_state_dict(weights)
        restore_vocabulary(self.model.encoder)
        self.model.eval()
        logits = None
        if self.dev is not None:
            max_tokens = self.config.eval_batch_tokens
            logits = predict_logits(self.model, self.dev, self.session, max_tokens=max_tokens, exact=True)
        progress = self.progress
        return FitResult(self.model, logits, progress.history, progress.best_step, progress.step, self.plan.total_steps)


def dev_metrics(
    logits: NDArray[np.float32], dev: Examples, loss_function: LossFunction, *, seed: int
) -> dict[str, float]:
    """Metrics of dev logits (n, k) that steer training; F1 is taken with cross-fitted thresholds."""
    parts = (torch.from_numpy(logits), torch.from_numpy(dev.labels), torch.from_numpy(dev.observed))
    loss = float(loss_function(*parts)) / len(dev)
    values = {"loss": loss, **evaluation.quick_scores(logits, dev.labels, dev.observed, seed=seed)}
    return {artifacts.metric("dev", name): value for name, value in values.items()}
