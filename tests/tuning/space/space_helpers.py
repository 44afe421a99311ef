"""Spaces around the settings of training, for the tests of spaces."""

import functools
from dataclasses import fields

import optuna

from trainer.config import PRESETS, TrainConfig, parse
from trainer.core.presets import load_preset, preset_names
from trainer.core.settings import flatten
from tuning.space.parser import SPACES, read_space

SHIPPED = preset_names(SPACES)
TRAIN_PRESETS = preset_names(PRESETS)
COMPONENTS = {name: part.name for part in fields(TrainConfig()) for name in flatten(getattr(TrainConfig(), part.name))}

SHARED = {"learning_rate", "warmup_ratio", "weight_decay", "dropout", "epochs", "batch_size"}
OWN = {
    "bce": {"label_smoothing"},
    "weighted_bce": {"class_weights"},
    "focal": {"alpha", "gamma"},
    "asl": {"gamma_pos", "gamma_neg", "margin"},
    "combined": {"alpha", "gamma", "gamma_pos", "gamma_neg", "margin", "ratio", "class_weights"},
}


@functools.cache
def settings_of(*arguments):
    """Every setting of training with these arguments."""
    return flatten(parse(list(arguments)))


def presets():
    return {name: load_preset(name, PRESETS) for name in TRAIN_PRESETS}


def shipped(name, losses=("combined",), preset="starter"):
    return read_space(name, settings_of("--preset", preset), COMPONENTS, losses, [])


def random_trial(seed):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
