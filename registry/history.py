"""History: who was champion when and why, read from the tracking server alone.

`mlflow run . -e history`, or `python -m registry.history`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime

from registry.config import HistoryConfig
from trainer.core import settings
from trainer.core.errors import RegistryError
from trainer.reporting import console
from trainer.reporting.command import run_cli
from trainer.tracking.connection import connect, describe, readable_errors

__all__ = ["history", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the ledger was read, 1 on an error that the user can mend."""
    return run_cli(lambda words: history(settings.parse(HistoryConfig, words)), argv)


def history(config: HistoryConfig) -> None:
    """Print the ledger, after mending what aliases and tags say otherwise."""
    from registry.store import (  # MLflow loads with the connection, and `--help` must not wait for it
        aliases,
        decision_log,
    )

    os.environ.pop("MLFLOW_RUN_ID", None)
    model, screen, store = config.registered_model, console.make(), connect()
    with readable_errors(store):
        book = decision_log.Ledger(store.client, model)
        entries, state = book.read()
        if not entries:
            names = sorted(found.name for found in store.client.search_registered_models())
            raise RegistryError(
                f"registered model must have a ledger, but got registered_model={model!r} without one. "
                f"Registered there: {', '.join(names) or 'none'}. The first `mlflow run . -e promote` begins it."
            )
    for entry in entries:
        at = datetime.fromtimestamp(entry.at / 1000).astimezone()
        instead = f", in place of version {entry.replaced}" if entry.replaced and entry.kind != "refused" else ""
        screen.show_note(
            f"{entry.number:>3}  {at:%Y-%m-%d %H:%M}  version {entry.version} {entry.kind}{instead} by {entry.by}: "
            f"{entry.why} (run {entry.run_id})"
        )
    before = f", before it version {state.previous}" if state.previous else ""
    screen.show_note(f"champion: version {state.champion or '-'}{before}; challenger: {state.challenger or '-'}")
    _mend(lambda: aliases.settle(store.client, model, book), screen)


def _mend(settle: Callable[[], list[str]], screen: console.Console) -> None:
    """Mend aliases and tags; who may read but not write is told no more than that."""
    from mlflow.exceptions import MlflowException

    try:
        for change in settle():
            screen.show_warning(f"{change}: mended, as the ledger has it.")
    except MlflowException as error:
        screen.show_warning(
            f"aliases or tags are not as the ledger has them, and could not be mended: {describe(error)}"
        )


if __name__ == "__main__":
    sys.exit(main())
