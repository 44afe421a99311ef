"""Roll back: make the champion before the present one champion again, or the version that is named.

`mlflow run . -e rollback`, or `python -m registry.rollback --version 3 --reason "sad texts came out as joy"`.
"""

import sys
from collections.abc import Sequence

from registry.config import RollbackConfig
from trainer.core import settings
from trainer.core.errors import RegistryError
from trainer.reporting.command import run_cli

__all__ = ["main", "rollback"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the version is champion again; 1 when it cannot be, and nothing was changed."""
    return run_cli(lambda words: rollback(settings.parse(RollbackConfig, words)), argv)


def rollback(config: RollbackConfig) -> None:
    """Try the version, and put it on the throne when it loads and scores as its run did."""
    from registry.promotion import pipeline  # loads MLflow and pandas, and `--help` must not wait for them

    with pipeline.open_desk(config) as desk:
        decision = desk.restore(config.target.version, config.target.reason, config.probe)
        desk.record(decision)
        entry = desk.enter(decision)
        if entry is None:
            raise RegistryError(
                "rollback must start from the champion of now, but got a decision of somebody else meanwhile. "
                "Look at `mlflow run . -e history`, and run this again if it is still right."
            )
        desk.show(decision, entry)


if __name__ == "__main__":
    sys.exit(main())
