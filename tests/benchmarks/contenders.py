"""One short training in a process of its own, ours or that of stock transformers, which measures itself.

    python -m tests.benchmarks.contenders CONTENDER RESULT.json [--setting value]...

Clocks start at the first step, after a forward and backward over the longest rows that nobody's clock counts.
"""

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
)

from tests.benchmarks.measure import peak_resident_mib
from tests.benchmarks.served import ask_server, load_served, time_calls
from trainer.config import parse
from trainer.core import artifacts
from trainer.core.settings import flatten
from trainer.data import sources
from trainer.data.tokenization import tokenize
from trainer.fit.components import build_components, build_loop
from trainer.fit.distributed import has_bf16, open_context
from trainer.fit.inference import predict_logits
from trainer.model.config import STARTER
from trainer.model.encoder import quiet
from trainer.model.source import STARTER_FOLDER
from trainer.model.tokenizer import load_tokenizer
from trainer.tracking.run import NullTracker, open_run

__all__ = ["CONTENDERS", "main"]

_DEV_ROWS = 256  # evaluation is no part of a training step
_CALLS = 500
_COUNTED_STEPS = 8


class Clock(TrainerCallback):
    """Times the steps of a training: a callback of the stock Trainer, and a callback of our loop."""

    def __init__(self, rows, last_step):
        self.rows, self.last_step, self.result = rows, last_step, {}

    def start(self):
        self.start_seconds = time.time() - psutil.Process().create_time()
        self._started = _now()

    def update(self, step, _metrics):
        if step == self.last_step:
            self.seconds = _now() - self._started
            self.result = {
                "samples_per_second": self.rows / self.seconds,
                "peak_mib": _peak_mib(),
                "start_seconds": self.start_seconds,
            }

    def on_evaluation(self, row, *, best):
        pass

    def on_train_begin(self, *_, **__):
        self.start()

    def on_step_end(self, _arguments, state, _control, **_):
        self.update(state.global_step, {})


def train_ours(config, *, tracked):
    """Our loop, as `trainer.train` builds it."""
    output, started, seed = Path(config.run.output), time.perf_counter(), config.run.seed
    opened = (
        open_run(output, parameters=flatten(config)) if tracked else nullcontext(NullTracker("run", output / "run"))
    )
    with opened as tracker:
        opening = time.perf_counter() - started
        context = open_context(config.fit.precision, seed)
        dataset = sources.load(config.data, seed=seed)
        dataset = replace(dataset, dev=dataset.dev.take(np.arange(min(len(dataset.dev), _DEV_ROWS))))
        components = build_components(dataset, config.data, config.model, cache=output / ".cache")
        loop = build_loop(components, dataset, config.loss, config.fit, context, tracker, seed=seed)
        clock = Clock(len(dataset.train) * config.fit.epochs, loop.batches.total_steps)
        dry_run = loop.stepper.dry_run
        loop.stepper.dry_run = lambda *rows: (dry_run(*rows), clock.start())
        started, processed = time.perf_counter(), time.process_time()
        loop.run(clock)
        wall, cpu = time.perf_counter() - started, time.process_time() - processed
        costs = _tracker_costs(tracker, opening) if tracked else {}
    work = {"gflops": _gflop(loop) / clock.seconds, "matrix_gflops": _matrix_gflops(context)}
    return clock.result | {"loop_seconds": wall, "cpu_seconds": cpu} | work | costs


def train_stock(config, *, grouped):
    """The Trainer of transformers with its defaults, and our weights, rows, batch size and learning rate.

    grouped: batches of like length, cut to our max_length, in our precision; else all padded to 256, in float32.
    """
    dataset = sources.load(config.data, seed=config.run.seed)
    source = str(STARTER_FOLDER) if config.model.model == STARTER else config.model.model
    options = {"num_labels": len(dataset.label_names), "problem_type": "multi_label_classification"}
    model, tokenizer = _stock_model(source, options)
    length = {"max_length": config.data.max_length} if grouped else {"max_length": 256, "padding": "max_length"}
    encoded = tokenizer(list(dataset.train.texts), truncation=True, **length)
    labels = dataset.train.labels.tolist()
    rows = [{name: values[i] for name, values in encoded.items()} | {"labels": labels[i]} for i in range(len(labels))]
    clock = Clock(len(rows) * config.fit.epochs, -(-len(rows) // config.fit.batch_size) * config.fit.epochs)
    arguments = _stock_arguments(config, grouped=grouped)
    trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    longest = sorted(rows, key=lambda row: -len(row["input_ids"]))[: config.fit.batch_size]
    with trainer.accelerator.autocast():
        loss = model(**trainer.data_collator(longest).to(arguments.device)).loss
    loss.backward()
    model.zero_grad(set_to_none=True)
    trainer.train()
    return clock.result


def score_ours(config):
    """Logits of the test split as an evaluation computes them, tokenization included."""
    context = open_context("fp32", config.run.seed)
    dataset = sources.load(config.data, seed=config.run.seed)
    components = build_components(dataset, config.data, config.model, cache=Path(config.run.output) / ".cache")
    components.model.to(context.device)

    def score():
        tokens = tokenize(dataset.test.texts, components.tokenizer, max_length=config.data.max_length)
        examples = replace(components.splits["test"], tokens=tokens)
        predict_logits(components.model, examples, context, max_tokens=config.fit.eval_batch_tokens, exact=True)

    return _texts_per_second(score, len(dataset.test))


def score_served(config, *, precision):
    """The served model over the same texts: thresholds and a table of answers included."""
    model, texts = load_served(config, precision)
    return _texts_per_second(lambda: model.predict(texts), len(texts))


def score_stock(config):
    """The text-classification pipeline of transformers over the same texts, in batches of 32."""
    classify, texts = _stock_pipeline(config)
    return _texts_per_second(lambda: classify(texts, batch_size=32), len(texts))


def answer_one(config, *, precision):
    """The served model, one text at a time."""
    model, texts = load_served(config, precision)
    return time_calls(lambda text: model.predict([text]), texts)


def answer_one_stock(config):
    """The same pipeline, one text at a time."""
    classify, texts = _stock_pipeline(config)
    return time_calls(classify, texts)


def _stock_pipeline(config):
    dataset = sources.load(config.data, seed=config.run.seed)
    options = {"num_labels": len(dataset.label_names), "problem_type": "multi_label_classification"}
    source = str(STARTER_FOLDER) if config.model.model == STARTER else config.model.model
    model, tokenizer = _stock_model(source, options)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    return partial(classify, truncation=True, max_length=config.data.max_length), list(dataset.test.texts)


def _texts_per_second(score, count):
    started = _now()
    score()
    return {"texts_per_second": count / (_now() - started), "peak_mib": _peak_mib()}


def _stock_model(source, options):
    """Model and tokenizer of a folder; of a config file, random weights and the tokenizer beside it."""
    if not source.endswith(".json"):
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32, **options)
        return model, load_tokenizer(source)
    config = AutoConfig.from_pretrained(source, **options)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return model, load_tokenizer(str(Path(source).parent / "tokenizer"))


def _gflop(loop):
    """10^9 operations of all matrix products of a loop, from those of some steps and the pieces of every one."""
    plan = loop.batches.epoch(0)
    cells = [len(rows) * int(loop.train.tokens.lengths[rows].max()) for rows in plan]
    chosen = range(0, len(plan), max(1, len(plan) // _COUNTED_STEPS))
    with FlopCounterMode(display=False) as counter:
        for number in chosen:
            loop.stepper.step(loop.train, plan[number])
    return counter.get_total_flops() / sum(cells[number] for number in chosen) * sum(cells) * loop.config.epochs / 1e9


def _matrix_gflops(context):
    """The machine's best rate of a large matrix product in the precision of the context."""
    size = 8192 if context.device.type == "cuda" else 2048
    kind = torch.bfloat16 if context.precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=context.device, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(10):
        started = _now()
        torch.mm(left, right)
        seconds.append(_now() - started)
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


CONTENDERS = {
    "ours": partial(train_ours, tracked=False),
    "ours_tracked": partial(train_ours, tracked=True),
    "stock_grouped": partial(train_stock, grouped=True),
    "stock_padded": partial(train_stock, grouped=False),
    "ours_scores": score_ours,
    "served_scores": partial(score_served, precision="fp32"),
    "served_scores_int8": partial(score_served, precision="int8"),
    "stock_scores": score_stock,
    "served_one": partial(answer_one, precision="fp32"),
    "served_one_int8": partial(answer_one, precision="int8"),
    "stock_one": answer_one_stock,
    "server": partial(ask_server, precision="fp32"),
    "server_int8": partial(ask_server, precision="int8"),
}


def main(argv):
    """Train as the named contender, and write what it measured."""
    contender, result, *words = argv
    Path(result).write_text(json.dumps(CONTENDERS[contender](parse(words))), encoding="utf-8")
    return 0


def _tracker_costs(tracker, opening):
    """Seconds outside the loop, and of one call with the metrics of a logged step while a thread delivers others."""
    started = time.perf_counter()
    if not tracker.flush(60):
        raise RuntimeError("store must take all metrics before calls are timed, but took none for 60 seconds.")
    outside = opening + time.perf_counter() - started
    names = ("loss", "learning_rate", "grad_norm", "samples_per_second", "epoch")
    point = {artifacts.metric("train", name): 0.5 for name in names}
    started = time.perf_counter()
    for step in range(_CALLS):
        tracker.log_metrics(point, step)
    return {"outside_seconds": outside, "call_microseconds": (time.perf_counter() - started) / _CALLS * 1e6}


def _now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_mib():
    """Most memory so far, of the GPU, or resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_resident_mib()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
