"""Answers questions about settings of `train` to programs that start trainings: JSON in, JSON out.

    echo '{"words": ["--preset", "starter"], "changes": [{"learning_rate": 2}]}' | python -m trainer.check

The question: `words`, a command line of `train`; `changes`, lists of settings that would differ from it; `data`,
whether to read the data set too. The answer: `known`, every setting with its part; `settings`, the words resolved;
`changed`, for each change the settings that the loss would not read (`idle`) or what is wrong with it (`error`);
`presets`, what is shipped; `data`, its facts. Or `error`, when the words themselves are wrong or the data set is.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from trainer.config import PRESETS, TrainConfig, parse
from trainer.core import presets, settings
from trainer.core.errors import EmotionsError
from trainer.data import sources
from trainer.evaluation import evaluation
from trainer.model.config import LossConfig
from trainer.model.losses.table import unused_settings

__all__ = ["answer", "main"]


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a question, both as described above."""
    told: dict[str, Any] = {"known": _known()}
    try:
        config = parse(question["words"])
        told["settings"] = base = settings.flatten(config)
        told["changed"] = [_changed(base, change) for change in question.get("changes", ())]
        told["presets"] = {name: presets.load_preset(name, PRESETS) for name in presets.preset_names(PRESETS)}
        if question.get("data"):
            dataset = sources.load(config.data, seed=config.run.seed)
            evaluation.check_dev(dataset.dev.observed, folds=config.evaluation.threshold_folds)
            told["data"] = dataset.facts()
    except EmotionsError as error:
        told["error"] = str(error)
    return told


def _known() -> dict[str, str]:
    default = TrainConfig()
    return {name: part.name for part in fields(default) for name in settings.flatten(getattr(default, part.name))}


def _changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    try:
        config = settings.from_flat(TrainConfig, {**base, **change}, origin="a change")
    except EmotionsError as error:
        return {"error": str(error)}
    of_losses = [name for name in change if name in vars(LossConfig())]
    return {"idle": unused_settings(config.objective.loss, of_losses)}


def main() -> int:
    """Answer the question on standard input on standard output; the status is 0 whatever the answer is."""
    print(json.dumps(answer(json.load(sys.stdin))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
