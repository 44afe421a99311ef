"""Scores of the test split: by an evaluation, by the served model, and by the pipeline of stock transformers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import pipeline

from tests.benchmarks.implementations.measuring import load_stock, now, peak_mib
from tests.benchmarks.implementations.served_model import load_served, time_calls
from trainer.data import sources
from trainer.data.tokenization import tokenize
from trainer.fit.components import build_components
from trainer.fit.distributed import open_context
from trainer.fit.inference import predict_logits

__all__ = ["score_served", "score_split", "score_stock", "time_served", "time_stock"]


def score_split(config):
    """Measure the logits of an evaluation, tokenization included."""
    context = open_context("fp32", config.run.seed)
    dataset = sources.load(config.data, seed=config.run.seed)
    components = build_components(dataset, config.data, config.model, cache=Path(config.run.output) / ".cache")
    components.model.to(context.device)

    def score():
        tokens = tokenize(dataset.test.texts, components.tokenizer, max_length=config.data.max_length)
        split = replace(components.splits["test"], tokens=tokens)
        predict_logits(components.model, split, context, max_tokens=config.fit.eval_batch_tokens, exact=True)

    return _measure(score, len(dataset.test))


def score_served(config, *, precision):
    """Measure the served model on the same texts, thresholds and output table included."""
    model, texts = load_served(config, precision)
    return _measure(lambda: model.predict(texts), len(texts))


def score_stock(config):
    """Measure the text-classification pipeline on the same texts, in batches of 32."""
    classify, texts = _stock_pipeline(config)
    return _measure(lambda: classify(texts, batch_size=32), len(texts))


def time_served(config, *, precision):
    """Measure calls of the served model with one text."""
    model, texts = load_served(config, precision)
    return time_calls(lambda text: model.predict([text]), texts)


def time_stock(config):
    """Measure calls of the pipeline with one text."""
    classify, texts = _stock_pipeline(config)
    return time_calls(classify, texts)


def _stock_pipeline(config):
    dataset = sources.load(config.data, seed=config.run.seed)
    model, tokenizer = load_stock(config.model.model, len(dataset.label_names))
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    return partial(classify, truncation=True, max_length=config.data.max_length), list(dataset.test.texts)


def _measure(score, count):
    started = now()
    score()
    return {"texts_per_second": count / (now() - started), "peak_mib": peak_mib()}
