"""Brings the answers of a model or file into the labels of the data, and pairs those of two."""

from dataclasses import dataclass

from trainer.core.errors import SettingsError, shorten
from trainer.data.sources import LoadedSplit
from trainer.evaluating.systems import Evaluated, Facts
from trainer.evaluation import label_mapping
from trainer.evaluation.arrays import BoolArray, IntArray, LabelledScores
from trainer.evaluation.comparison_results import Comparison, System, verdict_sentence
from trainer.evaluation.evaluation import Decisions
from trainer.evaluation.label_mapping import AlignedLabels, LabelMapping

__all__ = ["Judged", "judge", "paired_systems", "second_name", "verdicts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a model or file answers for the examples, in the labels that it shares with the data."""

    facts: Facts
    aligned: AlignedLabels
    scores: LabelledScores
    decisions: Decisions

    @property
    def predictions(self) -> BoolArray:
        """The decisions of the default policy, (n, k)."""
        return self.decisions.predictions[self.decisions.policy]


def judge(data: LoadedSplit, kept: IntArray, system: Evaluated, mapping: LabelMapping | None) -> Judged:
    """Return the answers of a system for the examples `kept`, in the labels that it shares with the data."""
    aligned = label_mapping.align(system.facts.label_names, data.label_names, mapping)
    answers = system.answer(data.split, kept)
    labels, observed = label_mapping.group_labels(data.split.labels[kept], data.split.observed[kept], aligned.data)
    scores = LabelledScores(
        label_names=aligned.label_names,
        scores=label_mapping.group_probabilities(answers.probabilities, aligned.model),
        labels=labels,
        observed=observed,
    )
    given, columns = answers.decisions, aligned.model
    decisions = Decisions(
        predictions={name: label_mapping.group_predictions(one, columns) for name, one in given.predictions.items()},
        thresholds={name: label_mapping.group_thresholds(one, columns) for name, one in given.thresholds.items()},
        policy=given.policy,
    )
    return Judged(facts=system.facts, aligned=aligned, scores=scores, decisions=decisions)


def second_name(first: Judged, second: Judged) -> str:
    """Return a name for the second of two systems that is not that of the first."""
    name = second.facts.name
    return name if name != first.facts.name else f"{name} (compared)"


def paired_systems(first: Judged, second: Judged) -> list[System]:
    """Return the predictions of both on the labels of the first. Raises SettingsError for other labels."""
    if difference := set(first.scores.label_names) ^ set(second.scores.label_names):
        raise SettingsError(
            f"`compare_to` must have the same labels, got {second.facts.name}: "
            f"{shorten(', '.join(sorted(difference)))} not in both. A label_mapping restricts both to its labels."
        )
    order = [second.scores.label_names.index(name) for name in first.scores.label_names]
    return [
        System(name=first.facts.name, predictions={0: first.predictions}),
        System(name=second_name(first, second), predictions={0: second.predictions[:, order]}),
    ]


def verdicts(comparison: Comparison | None) -> list[str]:
    """Return the verdict of the comparison in words, with what its interval covers; none without a comparison."""
    if comparison is None:
        return []
    return [
        f"Macro F1: {verdict_sentence(pair)}; p = {pair.p_value:.3g}. The interval covers the choice of examples, "
        "not another training of either model."
        for pair in comparison.pairs
    ]
