"""Print all decisions about the champion, read from the tracking server. Changes nothing.

`mlflow run . -e history`, or `python -m registry.history`.
"""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from registry.config import HistoryConfig
from trainer.core import settings
from trainer.core.errors import RegistryError
from trainer.reporting import console
from trainer.reporting.command import run_cli
from trainer.tracking import page
from trainer.tracking.connection import connect, readable_errors
from trainer.tracking.refusals import check_registry_right
from trainer.tracking.registered_models import model_names
from trainer.tracking.run import report_failure

if TYPE_CHECKING:
    from registry.store.aliases import Snapshot
    from registry.store.decision_log import Decision

__all__ = ["history", "main"]

_EXAMPLE = "mlflow run . -e history -P registered_model=emotions"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when the decision log was read, 1 when there is none or it is damaged."""
    return run_cli(_start, argv, report_failure)


def _start(argv: Sequence[str]) -> None:
    history(settings.parse(HistoryConfig, argv, example=_EXAMPLE))


def history(config: HistoryConfig) -> None:
    """Print the decision log, and the aliases that differ from it."""
    from registry.store import aliases, decision_log  # MLflow loads with the connection, `--help` does not need it

    model, screen, store = config.registered_model, console.make(), connect()
    with readable_errors(store):
        if run_id := os.environ.get("MLFLOW_RUN_ID"):  # of `mlflow run`, which has an empty run for this command
            page.describe_command(store.client, run_id, f"history {model}", "Printed the decisions; changed nothing.")
        snapshot = aliases.read_snapshot(store.client, model, decision_log.DecisionLog(store.client, model))
        if not snapshot.decisions:
            check_registry_right(store, model, reads=True)
            names = model_names(store.client)
            raise RegistryError(
                f"`registered_model` must have a decision log, got {model}. Registered models: "
                f"{', '.join(names) or 'none'}. The first `mlflow run . -e promote` begins the log."
            )
    for decision in snapshot.decisions:
        screen.show_note(_line(decision))
    state = snapshot.state
    before = f", before it version {state.previous}" if state.previous else ""
    gone = " (deleted)" if state.champion and state.champion not in snapshot.tags else ""
    screen.show_note(f"champion: version {state.champion or '-'}{gone}{before}; challenger: {state.challenger or '-'}")
    _show_moves(snapshot, screen)


def _line(decision: "Decision") -> str:
    at = datetime.fromtimestamp(decision.at / 1000).astimezone()
    replaces = decision.replaced and decision.kind in ("promoted", "restored")
    instead = f", in place of version {decision.replaced}" if replaces else ""
    return (
        f"{decision.number:>3}  {at:%Y-%m-%d %H:%M}  version {decision.version} {decision.kind}{instead} by "
        f"{decision.by}: {decision.why} (run {decision.run_id})"
    )


def _show_moves(snapshot: "Snapshot", screen: console.Console) -> None:
    next_step = (
        "a command has not finished; if it was interrupted, the next promote or rollback completes its decision"
        if snapshot.is_incomplete
        else "changed without promote or rollback; the next promote or rollback records it"
    )
    for move in snapshot.moves:
        screen.show_warning(f"{move}: {next_step}.")


if __name__ == "__main__":
    sys.exit(main())
