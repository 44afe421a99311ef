"""Promote the best run to champion if it passes the gate.

`mlflow run . -e promote`, or `python -m registry.promote --run_id RUN_ID --dry_run true`.
"""

import sys
from collections.abc import Sequence

from registry.config import PromoteConfig
from trainer.core import settings
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure

__all__ = ["main", "promote"]

_EXAMPLE = "mlflow run . -e promote -P run_id=RUN_ID -P dry_run=true"

_REFUSED = 2  # 1 is an error: there was no decision


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 after a decision, 1 when none was possible; with `exit_code` 2 when the candidate was refused."""
    return run_cli(
        lambda arguments: promote(settings.parse(PromoteConfig, arguments, example=_EXAMPLE)), argv, report_failure
    )


def promote(config: PromoteConfig) -> int:
    """Choose, check, compare and decide; compare again when another command decided meanwhile. Returns the status."""
    from registry.promotion import session  # loads MLflow and pandas, which `--help` does not need

    choice = config.choice
    with session.open_session(config, choice.experiment, dry_run=choice.dry_run) as opened:
        candidate = opened.choose(choice.run_id, choice.experiment)
        checked = None
        while True:
            if opened.is_champion(candidate):  # in the loop: the decision that came first may have promoted it
                opened.show_unchanged(candidate)
                return 0
            checked = checked or opened.check_model(candidate, config.check)  # once: the champion does not matter
            proposal = opened.compare(candidate, checked, config.gate)
            opened.log_decision(proposal)  # before the commit: each decision in the log has its record in a run
            decision = None if choice.dry_run else opened.commit(proposal)
            if decision or choice.dry_run:
                break
            opened.screen.show_note("another decision came first: comparing with the present champion")
        opened.show(proposal, decision)
    return _REFUSED if choice.exit_code and proposal.kind == "refused" else 0


if __name__ == "__main__":
    sys.exit(main())
