"""Promote: make the best run champion, if it is better beyond doubt and nothing speaks against it.

`mlflow run . -e promote`, or `python -m registry.promote --run_id RUN_ID --dry_run true`.
"""

import sys
from collections.abc import Sequence

from registry.config import PromoteConfig
from trainer.core import settings
from trainer.reporting.command import run_cli

__all__ = ["main", "promote"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 when a decision was taken, yes or no; 1 when none could be, and nothing was changed."""
    return run_cli(lambda words: promote(settings.parse(PromoteConfig, words)), argv)


def promote(config: PromoteConfig) -> None:
    """Choose, try, compare and decide; again from the comparison on, when another promoter decided meanwhile."""
    from registry.promotion import pipeline  # loads MLflow and pandas, and `--help` must not wait for them

    choice = config.choice
    with pipeline.open_desk(config, choice.experiment, dry_run=choice.dry_run) as desk:
        candidate = desk.choose(choice.run_id, choice.experiment)
        tried = None
        while True:
            if desk.is_champion(candidate):
                desk.show_unchanged(candidate)
                return
            tried = tried or desk.try_model(candidate, config.probe)
            decision = desk.compare(candidate, tried, config.gate)
            desk.record(decision)
            entry = None if choice.dry_run else desk.enter(decision)
            if entry or choice.dry_run:
                break
            desk.screen.show_note("another decision came first: comparing with the champion of now")
        desk.show(decision, entry)


if __name__ == "__main__":
    sys.exit(main())
