"""A decision about a version, and what it leaves to read: promotion.json and a figure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from registry.promotion.candidates import Candidate
from registry.promotion.gate import Rule
from registry.store.decision_log import Kind, State
from trainer.core import artifacts
from trainer.core.text_files import write_json
from trainer.evaluation.bootstrap import PairedDifference, bootstrap_intervals
from trainer.reporting import figures

__all__ = ["Decision", "draw_decision", "write_decision"]

_FIGURE = "promotion.png"
_GAP = ("difference", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided about a version, and on what grounds."""

    kind: Kind
    candidate: Candidate
    champion: Candidate | None
    """The champion that it was compared with."""
    state: State
    """Of the ledger, when this was decided."""
    rules: tuple[Rule, ...]
    figures: dict[str, float]
    difference: PairedDifference | None
    why: str
    becomes_challenger: bool = False


def write_decision(folder: Path, decision: Decision, circumstances: Mapping[str, Any]) -> None:
    """Write promotion.json to `folder`. circumstances: what else it holds, such as who decided."""
    truth, difference = decision.candidate.scored, decision.difference
    gaps = difference.per_label if difference else (None,) * len(truth.support)
    content = {
        "decision": decision.kind,
        "why": decision.why,
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "after_ledger_entry": decision.state.head,
        "candidate": _facts(decision.candidate),
        "champion": _facts(decision.champion) | {"version": decision.state.champion} if decision.champion else None,
        "rules": [asdict(rule) for rule in decision.rules],
        "figures": decision.figures,
        "per_label": [
            {"label": name, "positives": int(count)} | (dict(zip(_GAP, gap, strict=True)) if gap else {})
            for name, count, gap in zip(truth.label_names, truth.support, gaps, strict=True)
        ],
        **circumstances,
    }
    write_json(folder / artifacts.PROMOTION, content)


def draw_decision(folder: Path, decision: Decision) -> str | None:
    """Draw the figure of a decision; returns its name in `folder`, None where there are no scores to show."""
    path, truth = folder / _FIGURE, decision.candidate.scored
    if decision.difference is not None:
        figures.f1_differences(path, truth.label_names, decision.difference, truth.support)
    elif decision.kind != "restored":
        found = bootstrap_intervals(truth.scores, truth.predictions)
        spans = np.array([interval or (np.nan, np.nan) for interval in found.per_label])
        figures.per_label_f1(path, truth.label_names, truth.f1, spans, truth.support)
    else:
        return None
    return path.name


def _facts(candidate: Candidate) -> dict[str, Any]:
    return {
        "run_id": candidate.run_id,
        "run_name": candidate.run_name,
        "dev/macro_f1": candidate.dev_score,
        "policy": candidate.policy,
        "dataset": candidate.dataset["name"],
        "test_digest": candidate.test_digest,
    }
