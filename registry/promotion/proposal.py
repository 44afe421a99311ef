"""A proposed decision, and its record in the run of the command: promotion.json and a figure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from registry.promotion.candidates import RANKING, Candidate
from registry.promotion.gate import Rule
from registry.store.decision_log import Kind, RegistryState
from trainer.core import artifacts
from trainer.core.text_files import write_json
from trainer.evaluation.bootstrap import bootstrap_intervals
from trainer.evaluation.comparison_results import PairResult
from trainer.reporting import figures

__all__ = ["Proposal", "draw_proposal", "write_proposal"]

_FIGURE = "promotion.png"
_GAP = ("difference", "low", "high")
"""Of each label, in promotion.json."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A decision before it is committed to the decision log, and its reasons."""

    kind: Kind
    candidate: Candidate
    champion: Candidate | None
    """The champion that the candidate was compared with."""
    state: RegistryState
    """State of the decision log when this was proposed."""
    rules: tuple[Rule, ...]
    figures: dict[str, float]
    difference: PairResult | None
    why: str
    becomes_challenger: bool = False
    version: int | None = None
    """The version to restore; None registers the model of the candidate."""


def write_proposal(folder: Path, proposal: Proposal, context: Mapping[str, Any]) -> None:
    """Write promotion.json to `folder`. context: further entries, such as the person who decided."""
    truth, difference = proposal.candidate.test_scores, proposal.difference
    gaps = difference.per_label if difference else (None,) * len(truth.support)
    content = {
        "decision": proposal.kind,
        "why": proposal.why,
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "after_decision": proposal.state.head,
        "candidate": _facts(proposal.candidate),
        "champion": _facts(proposal.champion) | {"version": proposal.state.champion} if proposal.champion else None,
        "rules": [asdict(rule) for rule in proposal.rules],
        "figures": proposal.figures,
        "per_label": [
            {"label": name, "positives": int(count)} | ({part: getattr(gap, part) for part in _GAP} if gap else {})
            for name, count, gap in zip(truth.label_names, truth.support, gaps, strict=True)
        ],
        **context,
    }
    write_json(folder / artifacts.PROMOTION, content)


def draw_proposal(folder: Path, proposal: Proposal) -> str | None:
    """Draw the figure of a proposal; return its name in `folder`, or None where there are no scores to show."""
    path, truth = folder / _FIGURE, proposal.candidate.test_scores
    if proposal.difference is not None:
        difference = proposal.difference
        figures.f1_differences(path, truth.label_names, difference, truth.support, decision=proposal.kind)
    elif proposal.kind != "restored":  # a rollback without a comparison was not judged by scores
        intervals = bootstrap_intervals(truth.scores, truth.predictions)
        spans = np.array([interval or (np.nan, np.nan) for interval in intervals.per_label])
        figures.per_label_f1(path, truth.label_names, truth.f1, spans, truth.support)
    else:
        return None
    return path.name


def _facts(candidate: Candidate) -> dict[str, Any]:
    return {
        "run_id": candidate.run_id,
        "run_name": candidate.run_name,
        RANKING: candidate.dev_score,
        "policy": candidate.policy,
        "dataset": candidate.dataset["name"],
        "test_digest": candidate.test_digest,
    }
