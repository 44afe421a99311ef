"""A short training with our loop or with the Trainer of stock transformers."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer, TrainerCallback, TrainingArguments

from tests.benchmarks.implementations.measuring import load_stock, now, peak_mib
from trainer.core import artifacts
from trainer.core.settings import flatten
from trainer.data import sources
from trainer.fit.components import build_components, build_loop
from trainer.fit.distributed import has_bf16, open_context
from trainer.tracking.run import NullTracker, open_run

__all__ = ["train_ours", "train_stock"]

_DEV_EXAMPLES = 256  # an evaluation is no part of a training step
_CALLS = 500
_COUNTED_STEPS = 8


class Clock:
    """Measures the steps of a training after a dry run, which allocates memory."""

    def __init__(self, num_examples, last_step):
        self.num_examples, self.last_step, self.metrics = num_examples, last_step, {}

    def start(self):
        self._start_seconds = time.time() - psutil.Process().create_time()
        self._start = now()

    def stop_at(self, step):
        if step == self.last_step:
            self.seconds = now() - self._start
            self.metrics = {
                "examples_per_second": self.num_examples / self.seconds,
                "peak_mib": peak_mib(),
                "start_seconds": self._start_seconds,
            }


class OurCallback(Clock):
    """The clock as a callback of our loop, which logs its last step before it evaluates."""

    def on_log(self, step, _metrics):
        self.stop_at(step)

    def on_evaluation(self, row, *, best):
        pass


class StockCallback(Clock, TrainerCallback):
    """The clock as a callback of the Trainer."""

    def on_train_begin(self, *_, **__):
        self.start()

    def on_step_end(self, _arguments, state, _control, **_):
        self.stop_at(state.global_step)


def train_ours(config, *, tracked):
    """Train with our loop, built as `trainer.train` builds it, and return its figures."""
    output, started = Path(config.run.output), time.perf_counter()
    run = open_run(output, parameters=flatten(config)) if tracked else nullcontext(NullTracker("run", output / "run"))
    with run as tracker:
        opening_seconds = time.perf_counter() - started
        loop, clock = _build_loop(config, tracker)
        started, cpu_start = time.perf_counter(), time.process_time()
        loop.run(clock)
        seconds = {"loop_seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_start}
        costs = _tracker_costs(tracker, opening_seconds) if tracked else {}
    rates = {"gflops": _gflop(loop) / clock.seconds, "matrix_gflops": _matrix_gflops(loop.context)}
    return clock.metrics | seconds | rates | costs


def train_stock(config, *, grouped):
    """Train with the Trainer's defaults and our weights, examples, batch size and learning rate; return its figures.

    grouped: batches of similar length, truncated to our max_length, in our precision; else padded to 256 in float32.
    """
    dataset = sources.load(config.data, seed=config.run.seed)
    model, tokenizer = load_stock(config.model.model, len(dataset.label_names))
    length = {"max_length": config.data.max_length} if grouped else {"max_length": 256, "padding": "max_length"}
    encoded = tokenizer(list(dataset.train.texts), truncation=True, **length)
    labels = dataset.train.labels.tolist()
    examples = [
        {name: values[i] for name, values in encoded.items()} | {"labels": labels[i]} for i in range(len(labels))
    ]
    steps_per_epoch = -(-len(examples) // config.fit.batch_size)
    clock = StockCallback(len(examples) * config.fit.epochs, steps_per_epoch * config.fit.epochs)
    arguments = _stock_arguments(config, grouped=grouped)
    trainer = Trainer(model, arguments, train_dataset=examples, processing_class=tokenizer, callbacks=[clock])
    longest = sorted(examples, key=lambda example: -len(example["input_ids"]))[: config.fit.batch_size]
    with trainer.accelerator.autocast():
        loss = model(**trainer.data_collator(longest).to(arguments.device)).loss
    loss.backward()
    model.zero_grad(set_to_none=True)
    trainer.train()
    return clock.metrics


def _build_loop(config, tracker):
    """Return the loop, and a clock that starts after its dry run."""
    context = open_context(config.fit.precision, config.run.seed)
    dataset = sources.load(config.data, seed=config.run.seed)
    dataset = replace(dataset, dev=dataset.dev.take(np.arange(min(len(dataset.dev), _DEV_EXAMPLES))))
    components = build_components(dataset, config.data, config.model, cache=Path(config.run.output) / ".cache")
    loop = build_loop(components, dataset, config.loss, config.fit, context, tracker, seed=config.run.seed)
    clock = OurCallback(len(dataset.train) * config.fit.epochs, loop.batches.total_steps)
    dry_run = loop.stepper.dry_run
    loop.stepper.dry_run = lambda *arguments: (dry_run(*arguments), clock.start())
    return loop, clock


def _gflop(loop):
    """Return 10^9 operations of the matrix products of a training, extrapolated by tokens from some of its steps."""
    batches = loop.batches.epoch(0)
    tokens = [len(examples) * int(loop.train.tokens.lengths[examples].max()) for examples in batches]
    chosen = range(0, len(batches), max(1, len(batches) // _COUNTED_STEPS))
    with FlopCounterMode(display=False) as counter:
        for number in chosen:
            loop.stepper.step(loop.train, batches[number])
    per_token = counter.get_total_flops() / sum(tokens[number] for number in chosen)
    return per_token * sum(tokens) * loop.config.epochs / 1e9


def _matrix_gflops(context):
    """Return the best rate of a large matrix product on this machine, in the precision of the context."""
    size = 8192 if context.device.type == "cuda" else 2048
    kind = torch.bfloat16 if context.precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=context.device, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(10):
        started = now()
        torch.mm(left, right)
        seconds.append(now() - started)
    return 2 * size**3 / min(seconds) / 1e9


def _stock_arguments(config, *, grouped):
    return TrainingArguments(
        output_dir=config.run.output,
        per_device_train_batch_size=config.fit.batch_size,
        num_train_epochs=config.fit.epochs,
        learning_rate=config.fit.learning_rate,
        bf16=grouped and (has_bf16() if config.fit.precision == "auto" else config.fit.precision == "bf16"),
        train_sampling_strategy="group_by_length" if grouped else "random",
        use_cpu=not torch.cuda.is_available(),
        seed=config.run.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _tracker_costs(tracker, opening_seconds):
    """Return the seconds outside the loop, and of a call that logs the metrics of a step while a thread uploads."""
    started = time.perf_counter()
    if not tracker.flush(60):
        raise RuntimeError("Cannot time calls of the tracker: the store did not take all metrics within 60 seconds.")
    outside = opening_seconds + time.perf_counter() - started
    names = ("loss", "learning_rate", "grad_norm", "samples_per_second", "epoch")
    point = {artifacts.metric("train", name): 0.5 for name in names}
    started = time.perf_counter()
    for step in range(_CALLS):
        tracker.log_metrics(point, step)
    return {"outside_seconds": outside, "call_microseconds": (time.perf_counter() - started) / _CALLS * 1e6}
