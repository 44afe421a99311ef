"""Settings of the classifier and of its loss."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from typing_extensions import Doc

from trainer.core.errors import SettingsError, nearest
from trainer.core.settings import quote, require
from trainer.model.losses import table

__all__ = ["CLASS_WEIGHTS", "STARTER", "LossConfig", "ModelConfig", "PoolingName"]

Attention = Literal["auto", "compact", "stock"]
PoolingName = Literal["mean", "cls"]
if TYPE_CHECKING:
    LossName = str  # a type checker reads no table
else:
    LossName = Literal[table.LOSSES]

STARTER = "starter"
CLASS_WEIGHTS = ("none", "balanced", "effective_number")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder of the classifier, and how the hidden states of its tokens become one vector."""

    model: str = STARTER
    """Encoder: `starter` (in this repository), a local folder, a config `*.json` (random weights), or a hub id."""

    model_revision: str = ""
    """Branch, tag or commit of a hub model; empty = its main branch."""

    pooling: PoolingName = "mean"
    """Vector of a text: mean, over the hidden states of its tokens; cls, the hidden state of the first token."""

    dropout: float = 0.1
    """Probability of every dropout in encoder and head; replaces the encoder's own values. 0 to below 1."""

    attention: Attention = "auto"
    """Attention of a DeBERTa. compact: scores only the relative positions that a batch can have, with the results of
    stock in less time. stock: the code of transformers. auto: compact where it applies."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: a fraction of the memory, about a third slower."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise SettingsError("`model` must not be empty.")
        if self.model_revision and self.model == STARTER:
            raise SettingsError(
                f"`model_revision` must be empty for the starter, got {quote(self.model_revision)}. "
                "Only hub models have revisions."
            )
        _require_choice("pooling", self.pooling, get_args(PoolingName))
        _require_choice("attention", self.attention, get_args(Attention))
        require("dropout", self.dropout, 0 <= self.dropout < 1, "be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss. Every loss is a sum over labels and a mean over examples."""

    loss: Annotated[LossName, Doc(table.help_text())] = "combined"
    """Loss that is minimised; its help derives from the table of losses."""

    gamma_pos: float = 0.0
    """Exponent of asl that reduces the loss of easy positives, 0 to 5; 0 = as in bce."""

    gamma_neg: float = 2.0
    """Exponent of asl that reduces the loss of easy negatives, 0 to 10; 0 = as in bce."""

    margin: float = 0.05
    """Probability below which a negative has no loss in asl, 0 to 0.5."""

    alpha: float = 0.25
    """Weight of positives in focal, above 0 and below 1; negatives have weight 1 - alpha."""

    gamma: float = 2.0
    """Exponent of focal that reduces the loss of easy cells, 0 to 10; 0 = as in bce."""

    ratio: float = 0.7
    """Fraction of asl in combined, 0 to 1; the rest is class-weighted focal."""

    class_weights: str = "effective_number"
    """Label weights in weighted_bce and combined: none, balanced, effective_number, or a JSON file {label: weight}."""

    effective_number_beta: float = 0.999
    """Beta of class_weights=effective_number, 0 to below 1; 0 = equal weights, near 1 = by inverse frequency."""

    label_smoothing: float = 0.0
    """Label smoothing s, which moves every label towards 1/2: y (1 - s) + s / 2; 0 to below 0.5."""

    def __post_init__(self) -> None:
        _require_choice("loss", self.loss, table.LOSSES)
        for name, highest in {"gamma_pos": 5, "gamma_neg": 10, "margin": 0.5, "gamma": 10, "ratio": 1}.items():
            value = getattr(self, name)
            require(name, value, 0 <= value <= highest, f"be in [0, {highest}]")
        require("alpha", self.alpha, 0 < self.alpha < 1, "be above 0 and below 1")
        require("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 0.5, "be in [0, 0.5)")
        beta = self.effective_number_beta
        require("effective_number_beta", beta, 0 <= beta < 1, "be at least 0 and below 1")
        if not self.class_weights.endswith(".json"):
            _require_choice("class_weights", self.class_weights, CLASS_WEIGHTS, " or a file ending in .json")


def _require_choice(name: str, value: str, choices: tuple[str, ...], besides: str = "") -> None:
    if value not in choices:
        listed = ", ".join(choices) + besides
        raise SettingsError(f"`{name}` must be one of {listed}, got {quote(value)}.{nearest(value, choices)}")
