"""Every setting does something, and the command line changes only on purpose."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from train_helpers import LABELS, Observed

from trainer.config import TrainConfig, parse
from trainer.core import artifacts
from trainer.core.errors import SettingsError
from trainer.core.settings import flatten
from trainer.runs.results import read_predictions

GOLDEN = Path(__file__).with_name("golden_settings.json")


@dataclass(frozen=True, kw_only=True)
class Change:
    """Another value of a setting, and what must come out otherwise than in a run with the base settings."""

    value: Any
    seen: Callable[[Observed], Any]
    base: dict[str, Any] = field(default_factory=dict)
    """Other settings of both runs, where the effect needs them."""


def weights(seen):
    return seen.dev_logits()


def error(seen):
    return seen.status, seen.error


def steps(seen):
    return seen.fitted.steps


def rates(seen):
    return seen.series("train/learning_rate")


def train_rows(seen):
    return next((digest, profile) for _, digest, role, _, profile, _ in seen.tracker.datasets if role == "train")


def logged(name):
    return lambda seen: seen.series(name)


def choice(seen):
    return seen.outcome.choice.scores


def intervals(seen):
    return [row["f1_low"] for row in seen.outcome.per_label["test"]], seen.series("test/macro_f1_low")


def kept_columns(seen):
    found = read_predictions(seen.tracker.folder / artifacts.predictions_file("dev"))
    return found.columns, found.group_column


ASL, FOCAL, WEIGHTED = {"loss": "asl"}, {"loss": "focal"}, {"loss": "weighted_bce"}
CHANGES = {
    # the run
    "preset": Change(value="goemotions-minilm", seen=weights),
    "seed": Change(value=43, seen=weights),
    "processes": Change(value=2, seen=lambda seen: (seen.status, seen.workers, bool(seen.error))),
    "output": Change(value="elsewhere", seen=lambda seen: seen.tracker.folder.parent.name),
    "register": Change(value="true", seen=lambda seen: seen.tracker.registered),
    "registered_model": Change(value="moods", seen=lambda seen: seen.tracker.registered, base={"register": "true"}),
    "read_test": Change(value="false", seen=logged("test/macro_f1")),
    "retrain_from": Change(value="a-run", seen=error),
    "resume": Change(value="a-run", seen=error),
    # data
    "dataset": Change(value="{other_data}", seen=train_rows),
    "dataset_revision": Change(value="v1", seen=error),
    "text_column": Change(value="remark", seen=train_rows, base={"overlap": "keep"}),
    "label_column": Change(value="mood", seen=train_rows),
    "label_separator": Change(value=";", seen=error),
    "group_column": Change(value="mood", seen=kept_columns),
    "keep_columns": Change(value="remark, mood", seen=kept_columns),
    "folds": Change(value=3, seen=train_rows, base={"folds": 4, "fold": 2}),
    "fold": Change(value=3, seen=train_rows, base={"folds": 4, "fold": 2}),
    "max_length": Change(value=6, seen=lambda seen: seen.tracker.tags["data.truncated"]),
    "overlap": Change(value="keep", seen=train_rows),
    "max_train_rows": Change(value=32, seen=steps),
    # encoder
    "model": Change(value="{config_file}", seen=weights),
    "model_revision": Change(value="v1", seen=error),
    "pooling": Change(value="cls", seen=weights),
    "dropout": Change(value=0.4, seen=weights),
    "attention": Change(value="compact", seen=error),
    "gradient_checkpointing": Change(value="true", seen=lambda seen: seen.layer_calls),
    # loss
    "loss": Change(value="bce", seen=weights),
    "gamma_pos": Change(value=2, seen=weights, base=ASL),
    "gamma_neg": Change(value=4, seen=weights, base=ASL),
    "margin": Change(value=0.2, seen=weights, base=ASL),
    "alpha": Change(value=0.6, seen=weights, base=FOCAL),
    "gamma": Change(value=0.5, seen=weights, base=FOCAL),
    "ratio": Change(value=0.2, seen=weights),
    "class_weights": Change(value="{weights_file}", seen=weights, base=WEIGHTED),
    "effective_number_beta": Change(value=0.9, seen=weights, base=WEIGHTED),
    "label_smoothing": Change(value=0.2, seen=weights),
    # fitting
    "epochs": Change(value=2, seen=steps),
    "batch_size": Change(value=8, seen=steps),
    "tokens_per_batch": Change(
        value=64, seen=lambda seen: (steps(seen), max(seen.train_batches)), base={"batch_size": None}
    ),
    "micro_batch_size": Change(value=4, seen=lambda seen: max(seen.train_batches)),
    "eval_batch_tokens": Change(value=64, seen=lambda seen: seen.eval_batches),
    "learning_rate": Change(value=2e-3, seen=weights),
    "head_learning_rate_factor": Change(value=2, seen=weights),
    "layer_decay": Change(value=0.5, seen=weights),
    "weight_decay": Change(value=0.5, seen=weights),
    "warmup_ratio": Change(value=0.5, seen=rates),
    "schedule": Change(value="constant", seen=rates),
    "restarts": Change(value=4, seen=rates, base={"schedule": "cosine_with_restarts", "epochs": 3, "log_steps": 1}),
    "max_grad_norm": Change(value=0.01, seen=weights),
    "ema_decay": Change(value=0.9, seen=weights),
    "precision": Change(value="bf16", seen=weights),
    "compile": Change(value="true", seen=lambda seen: seen.fitted.model.encoder._compiled_call_impl is not None),
    "evals_per_epoch": Change(value=2, seen=logged("dev/loss")),
    "best_metric": Change(value="loss", seen=lambda seen: seen.loop.progress.best_score),
    "patience": Change(value=1, seen=steps, base={"epochs": 6, "learning_rate": 1e-9}),
    "log_steps": Change(value=1, seen=logged("train/loss")),
    "checkpoint_steps": Change(value=2, seen=lambda seen: seen.saved_at),
    # evaluation
    "calibration": Change(
        value="none", seen=lambda seen: seen.outcome.calibration_choice.method, base={"calibration": "platt"}
    ),
    "threshold_policy": Change(
        value="fixed", seen=lambda seen: seen.outcome.policy, base={"threshold_policy": "per_label"}
    ),
    "threshold_folds": Change(value=4, seen=choice),
    "bootstrap_resamples": Change(value=300, seen=intervals),
}


@pytest.fixture(scope="session")
def places(tmp_path_factory, data_folder, model_folder):
    """Files that changed settings name."""
    folder = tmp_path_factory.mktemp("places")
    other = folder / "other"
    other.mkdir()
    for path in data_folder.iterdir():
        (other / path.name).write_text(path.read_text(encoding="utf-8").replace("w9", "w8"), encoding="utf-8")
    per_label = folder / "weights.json"
    per_label.write_text(json.dumps(dict(zip(LABELS, (1.0, 2.0, 5.0, 0.5), strict=True))), encoding="utf-8")
    return {"other_data": other, "weights_file": per_label, "config_file": model_folder / "config.json"}


@pytest.fixture(autouse=True)
def uncompiled():
    """What is to be compiled runs as it is: the compiler would take minutes for an encoder of any size."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(scope="module")
def bases():
    """Base settings → their run, so that equal ones run once."""
    return {}


def test_the_table_has_every_setting():
    assert set(CHANGES) == set(flatten(TrainConfig()))


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_live(observe, bases, places, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change = CHANGES[name]
    value = change.value.format(**places) if isinstance(change.value, str) else change.value
    if (base := bases.get(str(change.base))) is None:
        base = bases[str(change.base)] = observe(**change.base)
    changed = observe(**(change.base | {name: value}))
    assert base.status == 0, base.error
    assert change.seen(changed) != change.seen(base)
    assert changed.status == 0 or change.seen is error or name == "processes", changed.error


def test_the_same_settings_give_the_same_run(observe):
    """Else the comparisons above would show differences without a cause."""
    first, second = observe(), observe()
    for seen in {change.seen for change in CHANGES.values()} - {CHANGES["output"].seen}:
        assert seen(first) == seen(second)


def test_a_refused_setting_says_which(observe):
    for name in ("dataset_revision", "model_revision", "retrain_from", "resume"):
        changed = observe(**{name: CHANGES[name].value})
        assert changed.status == 1
        assert name in changed.error


def test_a_preset_decides_what_no_flag_does(observe, tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("weight_decay: 0.5\nlog_steps: 1\n", encoding="utf-8")
    base, changed = observe(weight_decay=0.5), observe(preset=preset)
    assert weights(changed) == weights(base)
    assert changed.series("train/loss") == base.series("train/loss")  # the flag log_steps=2 has the last word


def test_the_command_line_is_the_one_on_record():
    """Others build on these names and defaults. Change golden_settings.json together with CHANGELOG.md."""
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == present_settings()


def present_settings():
    defaults = flatten(TrainConfig())
    return {name: {"type": kind, "default": defaults[name]} for name, kind in _types(TrainConfig).items()}


def _types(config_class):
    hints = get_type_hints(config_class)
    types = {}
    for part in dataclasses.fields(config_class):
        hint = hints[part.name]
        types |= _types(hint) if dataclasses.is_dataclass(hint) else {part.name: _named(hint)}
    return types


def _named(hint):
    return " | ".join(get_args(hint)) if get_origin(hint) is Literal else hint.__name__


@pytest.mark.parametrize("name", ["resume", "retrain_from"])
def test_an_unset_variable_does_not_start_another_run(name):
    with pytest.raises(SettingsError, match=f"`{name}` must not be empty"):
        parse([f"--{name}="])
