"""The table of losses. The choices and help of the setting `loss` and the settings that a loss reads derive from it.

To add a loss: a function in `trainer.model.losses.functions` and an entry here. It loads no torch, so that settings and
`--help` stay fast.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LOSSES", "LossEntry", "entry_of", "help_text", "losses_that_read", "settings_of", "unused_settings"]

_OF_EVERY_LOSS = frozenset({"label_smoothing"})
_OF_CLASS_WEIGHTS = frozenset({"class_weights", "effective_number_beta"})


@dataclass(frozen=True, kw_only=True)
class LossEntry:
    """One loss: its function has its name, takes logits, labels and mask, and its settings as keywords."""

    name: str
    """Value of the setting `loss`, and name of the function."""
    help: str
    settings: frozenset[str] = frozenset()
    """Fields of LossConfig that the function takes."""
    has_class_weights: bool = False
    """Whether the function takes `weights` (k,), which the settings of class weights determine."""


_TABLE = (
    LossEntry(name="bce", help="binary cross-entropy"),
    LossEntry(name="weighted_bce", help="binary cross-entropy times a weight per label", has_class_weights=True),
    LossEntry(
        name="focal", help="focal loss, which reduces the loss of easy cells", settings=frozenset({"alpha", "gamma"})
    ),
    LossEntry(
        name="asl",
        help="asymmetric loss, which reduces the loss of easy negatives",
        settings=frozenset({"gamma_pos", "gamma_neg", "margin"}),
    ),
    LossEntry(
        name="combined",
        help="ratio * asl + (1 - ratio) * class-weighted focal",
        settings=frozenset({"alpha", "gamma", "gamma_pos", "gamma_neg", "margin", "ratio"}),
        has_class_weights=True,
    ),
)
_BY_NAME = {entry.name: entry for entry in _TABLE}

LOSSES = tuple(_BY_NAME)
"""Names of all losses."""


def entry_of(loss: str) -> LossEntry:
    """Return the entry of a loss."""
    return _BY_NAME[loss]


def settings_of(loss: str) -> frozenset[str]:
    """Return the fields of LossConfig that a loss reads, class weights and smoothing included."""
    entry = entry_of(loss)
    return entry.settings | _OF_EVERY_LOSS | (_OF_CLASS_WEIGHTS if entry.has_class_weights else frozenset())


def unused_settings(loss: str, names: Iterable[str]) -> list[str]:
    """Return those of the given fields of LossConfig that a loss does not read, sorted."""
    return sorted(set(names) - settings_of(loss) - {"loss"})


def losses_that_read(setting: str) -> tuple[str, ...]:
    """Return the losses that read a field of LossConfig."""
    return tuple(loss for loss in LOSSES if setting in settings_of(loss))


def help_text() -> str:
    """Return the help of the setting `loss`."""
    return "Loss that is minimised. " + "; ".join(f"{entry.name}: {entry.help}" for entry in _TABLE) + "."
