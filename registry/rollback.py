"""Make the champion before the present one champion again, or the version with a given number.

`mlflow run . -e rollback`, or `python -m registry.rollback --version 3 --reason "sad texts came out as joy"`.
"""

import sys
from collections.abc import Sequence

from registry.config import RollbackConfig
from trainer.core import settings
from trainer.core.errors import RegistryError
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure

__all__ = ["main", "rollback"]

_EXAMPLE = "mlflow run . -e rollback -P version=3 -P reason='sad texts came out as joy'"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when the version is champion; 1 when it cannot be, and nothing was changed."""
    return run_cli(
        lambda arguments: rollback(settings.parse(RollbackConfig, arguments, example=_EXAMPLE)), argv, report_failure
    )


def rollback(config: RollbackConfig) -> None:
    """Check the version and set it as champion."""
    from registry.promotion import session  # loads MLflow and pandas, which `--help` does not need

    with session.open_session(config) as opened:
        proposal = opened.rollback_to(config.target.version, config.target.reason, config.check)
        opened.log_decision(proposal)
        decision = opened.commit(proposal)
        if decision is None:  # not repeated, as promote does: with another champion the user may want another version
            raise RegistryError(
                "Not rolled back: the champion was changed meanwhile. Look at `mlflow run . -e history`, and run this "
                "again if it is still right."
            )
        opened.show(proposal, decision)


if __name__ == "__main__":
    sys.exit(main())
