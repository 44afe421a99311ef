"""Asks training about its settings, through its command line: the search does not load what it would need itself."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.core import settings
from trainer.core.environment import child_environment
from trainer.core.errors import SettingsError, nearest
from tuning.config import TuneConfig
from tuning.execution.training import as_words
from tuning.space.space import Space

__all__ = ["Trainable", "ask", "check_space"]

_LEFT_TO_THE_SEARCH = {
    "best_metric": "objective says what is chosen by",
    "read_test": "trials never read test, the winner does",
    "register": "promote registers the winner",
    "resume": "study=NAME goes on with a study",
    "retrain_from": "retrain_on_dev=true does that with the winner",
}


@dataclass(frozen=True)
class Trainable:
    """What training says of the settings that all trials share."""

    words: tuple[str, ...]
    """Its command line."""
    settings: Mapping[str, Any]
    """Every setting, resolved."""
    known: Mapping[str, str]
    """Every setting → the part of training it belongs to."""
    presets: Mapping[str, Mapping[str, Any]]
    """What is shipped: name → settings."""
    data: Mapping[str, Any]
    """Facts of the data set, with its digests."""


def ask(given: Mapping[str, str], own: Mapping[str, str]) -> Trainable:
    """What training says of settings given by name, as text; its data set is read too.

    own: settings of training that the search has under the same name, such as the seed; each trial gets them anew.
    Raises SettingsError for unknown or wrong settings, for those that are the search's own, and for bad data.
    """
    for name, reason in _LEFT_TO_THE_SEARCH.items():
        if name in given:
            raise SettingsError(f"{name} must be left to the search, but got {name}={given[name]!r}: {reason}.")
    answer = _answer({"words": as_words({**given, **own}), "data": True})
    for name in given:
        if name not in answer["known"]:
            hint = nearest(name, sorted({*settings.flatten(TuneConfig()), *answer["known"]}))
            raise SettingsError(f"command line must use known settings, but got {name=}.{hint}")
    if "error" in answer:
        raise SettingsError(answer["error"])
    return Trainable(tuple(as_words(given)), *(answer[name] for name in ("settings", "known", "presets", "data")))


def check_space(space: Space, trainable: Trainable) -> None:
    """Raise SettingsError when training would refuse an end or choice of a space, or not read it."""
    changes = space.to_check()
    found = _answer({"words": trainable.words, "changes": changes})["changed"]
    varied = {one.name for one in space.dimensions}
    for change, said in zip(changes, found, strict=True):
        name = list(change)[-1]
        if "error" in said:
            raise SettingsError(f"space must hold what training takes, but got {change}: {said['error']}")
        if name in varied.intersection(said["idle"]):
            raise SettingsError(
                f"space must vary what the loss reads, but got {name} for loss={change['loss']}. "
                f"Add `when: {{loss: [...]}}` to {name}."
            )


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "trainer.check"]
    asked, environment = json.dumps(question), child_environment()
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(
            f"training must answer questions about settings, but got status {done.returncode}: {done.stderr[-500:]}"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
