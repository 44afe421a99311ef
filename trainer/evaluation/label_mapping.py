"""Brings the labels of a model and of a data set together: the same names, or groups of labels that a file defines.

A mapping has groups, `label: [members]`. A model or data set with labels of its members is grouped; one with the labels
of the groups is taken as it is. So one mapping serves a model of either vocabulary on data of either.

A group has the label of an example when any member has it, and is predicted when any member reaches its own threshold.
Its probability is 1 - ∏(1 - p) over the members: the probability that at least one applies if they are independent.
The maximum would be too low wherever the members share the probability; their sum is right only for labels that exclude
each other and may exceed 1. The calibration error of the evaluation measures what the assumption costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from trainer.core.errors import SettingsError, nearest, shorten
from trainer.core.input_files import show_path
from trainer.core.presets import load_yaml
from trainer.evaluation.arrays import Array, BoolArray, FloatArray

__all__ = [
    "AlignedLabels",
    "Columns",
    "LabelMapping",
    "align",
    "group_labels",
    "group_predictions",
    "group_probabilities",
    "group_thresholds",
    "read_mapping",
]

Columns: TypeAlias = tuple[tuple[int, ...], ...]
"""For each aligned label the columns of a table (n, k) that it is made of."""

_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class LabelMapping:
    """Groups of labels."""

    name: str
    groups: Mapping[str, tuple[str, ...]]
    """Label → its members, which may include its own name."""
    notes: tuple[str, ...] = ()
    """What a reader of the scores must know."""

    @property
    def members(self) -> set[str]:
        """Names of all members."""
        return {member for members in self.groups.values() for member in members}

    def columns(self, label_names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return label of the mapping → columns of a table with these labels; without those that have none."""
        place = {name: column for column, name in enumerate(label_names)}
        # Names of groups are often names of members too, so a member that is no group tells the vocabulary.
        is_grouped = bool(set(label_names) & (self.members - set(self.groups)))
        parts = self.groups if is_grouped else {name: (name,) for name in self.groups}
        found = {name: tuple(place[one] for one in members if one in place) for name, members in parts.items()}
        return {name: columns for name, columns in found.items() if columns}


@dataclass(frozen=True, kw_only=True)
class AlignedLabels:
    """The labels that are evaluated, and where a model and a data set have them."""

    label_names: tuple[str, ...]
    model: Columns
    data: Columns
    model_only: tuple[str, ...]
    """Labels of the model that the data cannot judge."""
    data_only: tuple[str, ...]
    """Labels of the data that the model cannot predict."""
    partial: tuple[str, ...] = ()
    """Sentences on groups that the model or the data has in part."""


def align(model: Sequence[str], data: Sequence[str], mapping: LabelMapping | None) -> AlignedLabels:
    """Return the labels that a model and a data set share, by name or through a mapping.

    model, data: their label names. Raises SettingsError when they share none, and for names of the mapping that neither
    has.
    """
    sides = {"model": model, "data": data}
    if mapping is not None:
        _check_known(mapping, {*model, *data})
    groups = mapping or LabelMapping(name="", groups={name: (name,) for name in model})
    found = {side: groups.columns(names) for side, names in sides.items()}
    shared = tuple(label for label in groups.groups if all(label in one for one in found.values()))
    if not shared:
        raise SettingsError(
            f"`label_mapping` must give the model and the data a common label, got none: the model has "
            f"{_shown(model)}, the data {_shown(data)}. Name a shipped mapping or a file."
        )
    columns = {side: tuple(found[side][name] for name in shared) for side in sides}
    rest = {side: tuple(np.delete(sides[side], sum(columns[side], ())).tolist()) for side in sides}
    partial = _partial(mapping, shared, sides) if mapping else ()
    return AlignedLabels(
        label_names=shared, **columns, model_only=rest["model"], data_only=rest["data"], partial=partial
    )


def group_probabilities(probabilities: FloatArray, columns: Columns) -> FloatArray:
    """Return 1 - ∏(1 - p) over the columns of each label, (n, labels); p itself where it has one column."""
    parts = [
        probabilities[:, one[0]] if len(one) == 1 else 1.0 - np.prod(1.0 - probabilities[:, one], axis=1)
        for one in columns
    ]
    return np.column_stack(parts)


def group_predictions(predictions: BoolArray, columns: Columns) -> BoolArray:
    """Return True where any column of a label is predicted, (n, labels)."""
    return np.column_stack([predictions[:, one].any(axis=1) for one in columns])


def group_labels(labels: Array, observed: BoolArray, columns: Columns) -> tuple[FloatArray, BoolArray]:
    """Return labels and observed mask, both (n, labels).

    A label is the highest observed value of its columns. It is observed where that is a positive, or where all columns
    are observed: a member that was not annotated could be present.
    """
    values = np.where(observed, labels, 0.0).astype(np.float64)
    grouped = np.column_stack([values[:, one].max(axis=1) for one in columns])
    seen = np.column_stack([observed[:, one].all(axis=1) for one in columns])
    return grouped, seen | (grouped >= 0.5)


def group_thresholds(thresholds: FloatArray, columns: Columns) -> FloatArray:
    """Return the threshold of each label, (labels,); NaN for a label of several columns, each of which has its own."""
    return np.array([thresholds[one[0]] if len(one) == 1 else np.nan for one in columns])


def read_mapping(name: str, folder: Path) -> LabelMapping:
    """Return the mapping called `name` in a folder, or that of a YAML or JSON file.

    The file has `label: [members]`, or these below `labels` and sentences below `notes`. Raises SettingsError for one
    that is missing, damaged or has other content.
    """
    content = load_yaml("label_mapping", name, folder)
    try:
        return _mapping(Path(name).stem, content)
    except ValueError as error:
        raise SettingsError(f"Cannot read `label_mapping` {show_path(name)}: {error}.") from error


def _mapping(name: str, content: Mapping[str, Any]) -> LabelMapping:
    notes: Any = []
    if isinstance(content.get("labels"), dict) and set(content) <= {"labels", "notes"}:
        content, notes = content["labels"], content.get("notes", [])
    if not content:
        raise ValueError("it must have lines `label: [members]`")
    groups = {}
    for label, members in content.items():
        parts = [members] if isinstance(members, str) else members
        if not isinstance(label, str) or not isinstance(parts, list) or not parts:
            raise ValueError(f"`{shorten(label)}` must be a label with a list of labels, as in `joy: [joy, love]`")
        if not all(isinstance(part, str) and part for part in parts):
            raise ValueError(f"the members of `{shorten(label)}` must be names of labels")
        groups[label] = tuple(dict.fromkeys(parts))
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("`notes` must be a list of sentences")
    return LabelMapping(name=name, groups=groups, notes=tuple(notes))


def _check_known(mapping: LabelMapping, known: set[str]) -> None:
    unknown = sorted(mapping.members - known)
    if unknown:
        raise SettingsError(
            f"`label_mapping` must name labels of the model or the data, got {_shown(unknown)} in "
            f"{shorten(mapping.name)}, which neither has.{nearest(unknown[0], sorted(known))}"
        )


def _partial(mapping: LabelMapping, shared: Sequence[str], sides: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    sentences = []
    for side, names in sides.items():
        if not set(names) & (mapping.members - set(mapping.groups)):
            continue  # it has the labels of the groups
        for label in shared:
            if lacking := [one for one in mapping.groups[label] if one not in names]:
                sentences.append(f"`{label}` is without {', '.join(lacking)}, which the {side} lacks.")
    return tuple(sentences)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(f"`{shorten(name, 30)}`" for name in names[:_NAMES_SHOWN]) + more
