"""Loads a registered version as MLflow's scoring protocol needs it, without running code of the model."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trainer.core.errors import EmotionsError, ModelError, shorten
from trainer.core.redaction import redact
from trainer.core.scratch import scratch_folder
from trainer.serving.opening import check_code
from trainer.tracking.model_address import download_model

__all__ = ["load_version"]

_TRIED = ["so proud of you!", ""]
_MAX_CAUSE = 200
_SCRATCH = re.compile(r"\S*/emotions-scratch-\S*")  # errors show long paths in part


def load_version(source: str, precision: str) -> tuple[Any, str]:
    """Return the PyFuncModel at `models:/NAME/VERSION`, after it has scored two texts, and a warning about its code.

    The warning is empty for code of this project. The answers are those of `mlflow models serve`, by the code of this
    version. Raises EmotionsError when the model cannot be downloaded, loaded or tried, or is none of ours.
    """
    with scratch_folder() as scratch:
        folder = download_model(source, scratch)
        warning = check_code(folder, source)
        try:
            model = _load(folder, precision)
            model.predict(_TRIED)
        except Exception as error:  # whatever damaged files make the libraries raise
            kind = "" if isinstance(error, EmotionsError) else f"{type(error).__name__}: "
            # The health page shows it to people without an account: no folder of this machine.
            cause = shorten(_SCRATCH.sub("its folder", redact(f"{kind}{error}")), _MAX_CAUSE)
            raise ModelError(f"Cannot load model {shorten(source)}: {cause}. Its files may be damaged.") from error
    return model, warning


def _load(folder: Path, precision: str) -> Any:
    from mlflow.models import Model
    from mlflow.pyfunc import PyFuncModel

    from trainer.serving.pyfunc_model import ServedClassifier

    description = folder / "artifacts" / "serving.json"
    # The folder is our own copy. The model names the package that it carries, and this installation takes its place.
    content = json.loads(description.read_text(encoding="utf-8")) | {"package": "trainer"}
    description.write_text(json.dumps(content), encoding="utf-8")
    classifier = ServedClassifier()
    classifier.load_context(
        SimpleNamespace(artifacts={"serving": str(description)}, model_config={"precision": precision})
    )
    return PyFuncModel(model_meta=Model.load(str(folder)), model_impl=_Implementation(classifier))


class _Implementation:
    """What PyFuncModel calls after it has checked the input."""

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        return self._classifier.predict(None, data, params)
