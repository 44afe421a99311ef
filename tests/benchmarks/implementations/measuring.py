"""Time and memory of the device, and the model of the reference."""

import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests.benchmarks.common.processes import peak_resident_mib
from trainer.model.config import STARTER
from trainer.model.encoder import quiet
from trainer.model.location import STARTER_FOLDER
from trainer.model.tokenizer import load_tokenizer

__all__ = ["load_stock", "now", "peak_mib"]


def now():
    """Return the seconds of a clock after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib():
    """Return the largest allocated memory of the GPU so far; without a GPU, the largest resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_resident_mib()


def load_stock(name, num_labels):
    """Return the stock classifier and the tokenizer of `model`: a folder, or a config file for random weights."""
    source = str(STARTER_FOLDER) if name == STARTER else name
    options = {"num_labels": num_labels, "problem_type": "multi_label_classification"}
    if not source.endswith(".json"):
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32, **options)
        return model, load_tokenizer(source)
    config = AutoConfig.from_pretrained(source, **options)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return model, load_tokenizer(str(Path(source).parent / "tokenizer"))
