"""Opens a folder with a saved model for scoring. No code of the model runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core.errors import ModelError, SettingsError, nearest, shorten
from trainer.core.input_files import is_file
from trainer.core.redaction import redact
from trainer.serving import runtime

if TYPE_CHECKING:
    from trainer.serving.scoring import TextScorer

__all__ = ["FORMS", "check_code", "load_scorer"]

FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/model or a folder with a saved model"
"""What `model` may be, for errors."""
_MAX_CAUSE = 200


def check_code(folder: Path, source: str) -> str:
    """Return a warning about the model's code, empty for code of this project.

    Raises ModelError for a model of another kind, whose answers only its own loader can give.
    """
    if not is_file(folder / "MLmodel"):
        raise ModelError(f"`model` must be {FORMS}, got {shorten(source)}, which has no MLmodel file.")
    code = runtime.read_code(folder)
    if code.is_known:
        return ""
    if code.loader == runtime.LOADER:
        return (
            f"The code in model {shorten(source)} (digest {code.digest[:12]}) is of no version known here. It does not "
            "run: this version scores the texts, and a server that runs the model's code may answer otherwise."
        )
    found = (
        f"its MLmodel names the loader {shorten(code.loader)}"
        if code.loader
        else "its MLmodel or serving.json is damaged"
    )
    raise ModelError(
        f"`model` must be one that this project saved, got {shorten(source)}: {found}. No code of a model "
        "runs here; if you trust it, use `mlflow models predict` or `mlflow models serve`."
    )


def load_scorer(folder: Path, source: str, policy: str | None) -> "TextScorer":
    """Return the model in a folder. policy: the threshold policy that it must have; None for its default.

    Raises SettingsError when it lacks the policy, before the model is loaded, and ModelError for damaged files.
    """
    from trainer.serving.scoring import TextScorer, read_serving  # loads torch

    artifacts = folder / "artifacts"
    try:
        policies = read_serving(artifacts).thresholds
        if policy is not None and policy not in policies:
            near = nearest(policy, policies)
            raise SettingsError(f"`policy` must be one of {', '.join(policies)}, got {shorten(policy)}.{near}")
        return TextScorer(artifacts)
    except ModelError as error:
        cause = shorten(
            redact(str(error).replace(f"{folder}/", "")), _MAX_CAUSE
        )  # paths in the model; its copy has a long name
        raise ModelError(f"Cannot load model {shorten(source)}: {cause}") from error
