"""Tune: a search for good settings, as one MLflow run with a run per trial below it.

`mlflow run . -e tune -P trials=40 -P workers=4`, or `python -m tuning.tune --losses bce,asl --trials 40`.
"""

import errno
import sys
from collections.abc import Mapping, Sequence

from trainer.core import console, settings
from trainer.core.errors import EmotionsError, TuningError
from tuning.config import TuneConfig

__all__ = ["main", "tune"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a search: 0 when it has ended well, 1 on an error that the user can mend."""
    try:
        own, others = settings.split_words(TuneConfig, sys.argv[1:] if argv is None else argv)
        tune(settings.parse(TuneConfig, own), others)
    except EmotionsError as error:
        console.make().show_error(error)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        full = TuningError(
            f"disk must have room, but got {error}. Free some, and give the same command again: nothing is lost."
        )
        console.make().show_error(full)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports Ctrl-C; what ran is queued again by now
    return 0


def tune(config: TuneConfig, of_training: Mapping[str, str]) -> None:
    """Run every stage. of_training: settings of `train` that all trials share, as text."""
    from tuning import search  # loads optuna, and `--help` must not wait for it

    with search.open_search(config, of_training) as stages:
        stages.announce()
        stages.explore()
        finals = stages.run_finals()
        if stages.leads:
            winner = stages.complete(finals)
            stages.report(finals, winner)
            stages.promote(winner)


if __name__ == "__main__":
    sys.exit(main())
