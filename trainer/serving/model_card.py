"""Writes the model card as Markdown and HTML: use, scores, limits, data, training and environment of a model.

Its facts come from the files of the run folder. MLflow shows the Markdown as the description of a version.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.evaluation.metrics import MIN_SUPPORT
from trainer.reporting.report import LabelScore, ReportData, interval, number, show

__all__ = ["write_card"]

_FIRST = (
    *("preset", "model", "loss", "epochs", "batch_size", "tokens_per_batch", "learning_rate", "max_length"),
    *("max_train_rows", "overlap", "class_weights", "precision", "seed"),
)
"""Settings at the top of the card, in this order; all others follow in the order of config.json."""

_WIDE = 0.4
_WEAK = 0.4
_NAMES_SHOWN = 8
_SPECIAL = re.compile(r"[\\`*\[\]<>|&#~!$]|(?<!\w)_|_(?!\w)")  # `_` inside a word is no emphasis in CommonMark
_RELIABILITY = "reliability.png"


def write_card(folder: Path, report: ReportData) -> None:
    """Write the card of a run into its folder, as Markdown and as one HTML page that includes the figure.

    folder: a run folder with settings, environment, data set and calibration. report: scores of the run.
    """
    facts = {
        name.removesuffix(".json"): json.loads((folder / name).read_text(encoding="utf-8"))
        for name in (artifacts.CONFIG, artifacts.ENVIRONMENT, artifacts.DATASET, artifacts.CALIBRATION)
    }
    picture = next((one.path for one in report.pictures if one.path.name == _RELIABILITY), None)
    text = _markdown(facts, report, picture.relative_to(folder).as_posix() if picture else "")
    (folder / artifacts.MODEL_CARD).write_text(text, encoding="utf-8")
    (folder / artifacts.MODEL_CARD_PAGE).write_text(_page(text, _title(facts), picture), encoding="utf-8")


def _markdown(facts: Mapping[str, Any], report: ReportData, reliability: str) -> str:
    from jinja2 import Environment, StrictUndefined

    # Every value in the template is escaped unless the template marks it as raw.
    environment = Environment(
        autoescape=False,  # noqa: S701  # it escapes HTML, and this is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape,
    )
    environment.filters.update(number=number, interval=interval, show=show, raw=_Raw)
    config = facts["config"]
    return environment.from_string(_template("card.md.j2")).render(
        **facts,
        report=report,
        labels=report.labels,
        title=_title(facts),
        limits=_limits(facts, report),
        policy=next(row.name for row in report.policies if row.chosen),
        commit=_commit(facts["environment"]),
        registered=_registered(config),
        example=artifacts.EXAMPLE_TEXT,
        model_name=artifacts.MODEL,
        reliability=reliability,
        first={name: config[name] for name in _FIRST if name in config},
        rest={name: value for name, value in config.items() if name not in _FIRST},
    )


def _page(text: str, title: str, picture: Path | None) -> str:
    from jinja2 import Environment, StrictUndefined
    from markdown_it import MarkdownIt

    # No HTML: names of labels and data sets come from outside.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    if picture:
        content = base64.b64encode(picture.read_bytes()).decode("ascii")
        body = re.sub(r'(<img src=")[^"]*', rf"\1data:image/png;base64,{content}", body, count=1)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_template("card.html.j2"))
    return page.render(title=title, body=body)


def _limits(facts: Mapping[str, Any], report: ReportData) -> list[str]:
    """Return the sentences on limits; those on scores only where the scores call for them."""
    data, config = facts["dataset"], facts["config"]
    sentences = [
        f"Domain: all scores are from {show(data['rows']['test'])} examples of {data['name']}. Expect lower scores and "
        "less accurate probabilities for texts of another source, topic, style, time or language.",
        "Annotators: the labels are the opinions of readers, who disagree about emotions. Scores measure agreement "
        "with them, not with the feelings of the writer.",
        "People: the model classifies texts, not persons. It must not decide about individuals: no hiring, credit, "
        "health, discipline or policing.",
        f"Length: the model reads the first {show(config['max_length'])} tokens of a text.",
        *_limits_of_labels(report.labels),
        *report.warnings,
    ]
    if left := sum(data["left_in_train"].values()):
        sentences.append(
            f"Leak: texts of {show(left)} examples of dev and test are also in train (overlap={config['overlap']}), "
            "so the scores are too high."
        )
    if facts["environment"].get("git_dirty"):
        sentences.append("Code: the files differed from the commit, so the commit does not reproduce the model.")
    return sentences


def _limits_of_labels(labels: Sequence[LabelScore]) -> Iterator[str]:
    rare = [
        f"{row.name} ({show(row.support)} positives, {interval(row.f1, 2)})"
        for row in sorted(labels, key=lambda row: row.support)
        if row.support > 0 and (row.support < MIN_SUPPORT or _is_wide(row))
    ]
    if rare:
        yield (
            f"Rare labels, with fewer than {MIN_SUPPORT} positives on test or a 95 % interval of F1 wider than "
            f"{_WIDE}: {_listed(rare)}."
        )
    scored = [(row.name, row.f1.value) for row in labels if row.f1.value is not None]
    if weak := [f"{name} ({number(value, 2)})" for name, value in scored if value < _WEAK]:
        yield f"Weak labels, with F1 on test below {_WEAK}: {_listed(weak)}."
    if unscored := [row.name for row in labels if row.f1.value is None]:
        yield f"Labels that test cannot measure: {_listed(unscored)}."


def _listed(names: Sequence[str]) -> str:
    others = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {others} more (see Labels)" if others > 0 else "")


def _is_wide(row: LabelScore) -> bool:
    low, high = row.f1.low, row.f1.high
    return low is not None and high is not None and high - low > _WIDE


def _title(facts: Mapping[str, Any]) -> str:
    config = facts["config"]
    return f"{_registered(config)}: {facts['dataset']['name']}, {config['loss']}, seed {config['seed']}"


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment.get("git_commit") or "outside a git repository"
    return f"{commit} with uncommitted changes" if environment.get("git_dirty") else str(commit)


class _Raw(str):
    """Text that the card shows without escaping."""

    __slots__ = ()


def _escape(value: object) -> str:
    """Return the value as one line of Markdown that shows every character literally."""
    text = str(value)
    return text if isinstance(value, _Raw) else _SPECIAL.sub(lambda match: "\\" + match[0], " ".join(text.split()))


def _template(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _registered(config: Mapping[str, Any]) -> str:
    return str(config.get("registered_model", artifacts.REGISTERED_MODEL))  # older runs lack the setting
