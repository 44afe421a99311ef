"""The card of a model: what it is, what it was made from, how good it is and what it is not for, as Markdown and HTML.

Written from what a run has left in its folder. MLflow shows the Markdown as the description of a version.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.reporting.report import LabelScore, ReportData, interval, number, show

__all__ = ["write_card"]

_FIRST = (
    *("preset", "model", "loss", "epochs", "batch_size", "tokens_per_batch", "learning_rate", "max_length"),
    *("max_train_rows", "overlap", "class_weights", "precision", "seed"),
)
"""Settings that say most about a model, in this order; all others follow in their own."""

_FEW_POSITIVES = 40
_WIDE = 0.4
_WEAK = 0.4
_SPECIAL = re.compile(r"[\\`*\[\]<>|&#~!$]|(?<!\w)_|_(?!\w)")
_RELIABILITY = "reliability.png"


def write_card(folder: Path, report: ReportData) -> None:
    """Write the card of the run in `folder` there, as Markdown and as one HTML page with its figure inside.

    folder: holds the run's settings, environment, data set, calibration. report: the scores, as the report shows them.
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

    # Whatever the template prints is escaped, but for what it calls raw.
    environment = Environment(
        autoescape=False,  # noqa: S701  that is for HTML
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
        registered=artifacts.REGISTERED_MODEL,
        model_name=artifacts.MODEL,
        reliability=reliability,
        first={name: config[name] for name in _FIRST if name in config},
        rest={name: value for name, value in config.items() if name not in _FIRST},
    )


def _page(text: str, title: str, picture: Path | None) -> str:
    from jinja2 import Environment, StrictUndefined
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    if picture:
        content = base64.b64encode(picture.read_bytes()).decode("ascii")
        body = re.sub(r'(<img src=")[^"]*', rf"\1data:image/png;base64,{content}", body, count=1)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_template("card.html.j2"))
    return page.render(title=title, body=body)


def _limits(facts: Mapping[str, Any], report: ReportData) -> list[str]:
    """What a user must know, in sentences; those about numbers only where the numbers say so."""
    data, config = facts["dataset"], facts["config"]
    sentences = [
        f"Domain: measured on {show(data['rows']['test'])} rows of {data['name']} alone. Texts of another source, "
        "topic, style, time or language have not been measured; expect less there, and probabilities that are off.",
        "Annotators: the labels are what readers saw in a text, and readers disagree about emotions. Scores say how "
        "well the model agrees with them, not with what the writer felt.",
        "People: it judges texts, not persons. It must not decide about individuals: no hiring, credit, health, "
        "discipline or policing.",
        f"Length: a text is cut after {show(config['max_length'])} pieces; what stands behind is not read.",
        *_limits_of_labels(report.labels),
        *report.warnings,
    ]
    if left := sum(data["left_in_train"].values()):
        sentences.append(
            f"Leak: {show(left)} rows of dev and test have their text in train as well (overlap={config['overlap']}), "
            "so the scores are too good."
        )
    if facts["environment"].get("git_dirty"):
        sentences.append("Code: made from files that differ from the commit, so it cannot be made again from it.")
    return sentences


def _limits_of_labels(labels: Sequence[LabelScore]) -> Iterator[str]:
    rare = [
        f"{row.name} ({show(row.support)} rows, {interval(row.f1, 2)})"
        for row in labels
        if row.support > 0 and (row.support < _FEW_POSITIVES or _is_wide(row))
    ]
    if rare:
        yield (
            f"Rare labels: fewer than {_FEW_POSITIVES} rows of test have them, or the 95 % interval of F1 is wider "
            f"than {_WIDE}: {', '.join(rare)}."
        )
    scored = [(row.name, row.f1.value) for row in labels if row.f1.value is not None]
    if weak := [f"{name} ({number(value, 2)})" for name, value in scored if value < _WEAK]:
        yield f"Weak labels: F1 on test is below {_WEAK}: {', '.join(weak)}."
    if unscored := [row.name for row in labels if row.f1.value is None]:
        yield f"Labels without a score, since test cannot measure them: {', '.join(unscored)}."


def _is_wide(row: LabelScore) -> bool:
    low, high = row.f1.low, row.f1.high
    return low is not None and high is not None and high - low > _WIDE


def _title(facts: Mapping[str, Any]) -> str:
    config = facts["config"]
    return f"{artifacts.REGISTERED_MODEL}: {facts['dataset']['name']}, {config['loss']}, seed {config['seed']}"


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment.get("git_commit") or "of no git repository"
    return f"{commit}, with changes that are not in it" if environment.get("git_dirty") else str(commit)


class _Raw(str):
    """Text of our own that stands in the card as it is."""

    __slots__ = ()


def _escape(value: object) -> str:
    """The text as Markdown shows it letter for letter, within a line."""
    text = str(value)
    return text if isinstance(value, _Raw) else _SPECIAL.sub(lambda match: "\\" + match[0], " ".join(text.split()))


def _template(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
