"""The leaderboard in the terminal, as JSON and as a page. A number that does not exist is a dash or null."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core.text_files import write_json
from trainer.reporting.console import Console
from trainer.reporting.page import page_environment
from trainer.reporting.report import DASH, Estimate, interval, number
from tuning.ranking.runs import DataGroup
from tuning.ranking.scores import RankedRun

__all__ = ["JSON", "PAGE", "Leaderboard", "Section", "note", "show", "write_files"]

JSON, PAGE = "leaderboard.json", "leaderboard.html"
_DIGITS = 4
_MINUTE, _HOUR = 60, 3600
_SEVERAL = (
    "The runs have {count} different sets of dev and test examples or labels: scores of different sets do not compare."
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """The best runs of one group."""

    group: DataGroup
    ranked: Sequence[RankedRun]
    versions: Mapping[str, Sequence[str]]
    """Run id → the versions of registered models that it has, with their aliases."""

    @property
    def differing(self) -> dict[str, dict[str, str]]:
        """Run id → the settings that differ from those of the first run."""
        first = self.ranked[0].run.settings
        return {
            one.run.run_id: {name: text for name, text in sorted(one.run.settings.items()) if first.get(name) != text}
            for one in self.ranked
        }

    @property
    def notes(self) -> list[str]:
        """What a reader must know of this group."""
        notes = []
        left = len(self.group.runs) - len(self.ranked)
        if left:
            notes.append(f"{left:,} more below; list them with -P top={len(self.group.runs)}")
        if any(one.tied for one in self.ranked):
            notes.append("= not shown to differ from the first: the 95 % interval of the difference on dev contains 0")
        train = {one.run.train_digest for one in self.ranked}
        if len(train) > 1:
            notes.append(f"trained on {len(train)} different sets of train examples")
        reasons = [one.no_interval for one in self.ranked if one.no_interval]
        if reasons:
            cause = f"{'for example: ' if len(reasons) > 1 else ''}{reasons[0]}"
            notes.append(f"without interval: {len(reasons)} of {len(self.ranked)} runs; {cause}")
        return notes


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The content of a leaderboard."""

    experiment: str
    metric: str
    sections: Sequence[Section]
    others: Mapping[str, int]
    """Why a training run is not listed → number of such runs."""
    resamples: int
    written: str

    @property
    def notes(self) -> list[str]:
        """What a reader must know of all groups."""
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(self.others.items()))
        return [
            *([_SEVERAL.format(count=len(self.sections))] if len(self.sections) > 1 else []),
            *([f"Not listed: {counts}."] if counts else []),
            "The best of many scores on dev is optimistic. Scores on test rank nothing.",
        ]


def write_files(folder: Path, board: Leaderboard) -> None:
    """Write leaderboard.json and leaderboard.html to `folder`."""
    write_json(folder / JSON, _content(board))
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(number=number, interval=interval, duration=_duration)
    template = environment.get_template("leaderboard.html.j2")
    page = template.render(
        board=board, dash=DASH, metric=_words(board.metric), scales=[_Scale.of(one.ranked) for one in board.sections]
    )
    (folder / PAGE).write_text(page, "utf-8")


def show(screen: Console, board: Leaderboard) -> None:
    """Print the tables and their notes."""
    metric = _words(board.metric)
    headings = ("", "run", f"dev {metric}", f"test {metric}", "loss", "seed", "time", "version", "run id")
    for section in board.sections:
        screen.show_table(section.group.title, headings, [_cells(one, section) for one in section.ranked])
        for note in section.notes:
            screen.show_note(f"  {note}")
    for note in board.notes:
        if note.startswith(_SEVERAL[:8]):
            screen.show_warning(note)
        else:
            screen.show_note(note)


def _cells(one: RankedRun, section: Section) -> list[str]:
    run = one.run
    versions = ", ".join(section.versions.get(run.run_id, ()))
    rank = f"{one.rank} =" if one.tied else str(one.rank)
    return [
        *(rank, run.name, _estimate(one.dev), _estimate(run.test)),
        *(run.loss or DASH, run.seed or DASH, _duration(run.seconds), versions or DASH, run.run_id),
    ]


@dataclass(frozen=True)
class _Scale:
    """Positions in percent of the scores of a group in the page's drawing of intervals."""

    low: float
    high: float

    @classmethod
    def of(cls, ranked: Sequence[RankedRun]) -> "_Scale":
        values = [value for one in ranked for value in (one.dev.value, one.dev.low, one.dev.high) if value is not None]
        return cls(min(values), max(values))

    def __call__(self, value: float) -> str:
        return f"{2 + 96 * (value - self.low) / ((self.high - self.low) or 1.0):.2f}"


def _content(board: Leaderboard) -> dict[str, Any]:
    return {
        "experiment": board.experiment,
        "metric": board.metric,
        "written": board.written,
        "resamples": board.resamples,
        "not_listed": dict(board.others),
        "notes": board.notes,
        "groups": [
            {
                "dataset": section.group.dataset,
                "labels": list(section.group.label_names),
                "dev_examples": section.group.num_dev,
                "dev_digest": section.group.dev_digest,
                "num_runs": len(section.group.runs),
                "notes": section.notes,
                "runs": [_row(one, section) for one in section.ranked],
            }
            for section in board.sections
        ],
    }


def _row(one: RankedRun, section: Section) -> dict[str, Any]:
    run = one.run
    return {
        "rank": one.rank,
        "run_id": run.run_id,
        "run_name": run.name,
        **_ends("dev", one.dev),
        **_ends("test", run.test),
        "tied_with_first": one.tied,
        "no_interval": one.no_interval or None,
        "loss": run.loss or None,
        "seed": int(run.seed) if run.seed else None,
        "seconds": run.seconds,
        "versions": list(section.versions.get(run.run_id, ())),
        "settings": section.differing[run.run_id],
    }


def _ends(role: str, estimate: Estimate) -> dict[str, float | None]:
    return {role: estimate.value, f"{role}_low": estimate.low, f"{role}_high": estimate.high}


def _estimate(estimate: Estimate) -> str:
    between = interval(estimate, _DIGITS)
    return f"{number(estimate.value, _DIGITS)} ({between})" if between else number(estimate.value, _DIGITS)


def _words(metric: str) -> str:
    return metric.replace("_f1", " F1").replace("_ap", " AP")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    hours, rest = divmod(round(seconds), _HOUR)
    return f"{hours}:{rest // _MINUTE:02} h" if hours else f"{rest // _MINUTE} min"


def note(board: Leaderboard, page: str) -> str:
    """Return the best run of each group as Markdown, which MLflow's page shows as the description of the run."""
    lines = [
        f"{section.group.title}: {len(section.group.runs):,} runs, best on dev "
        f"[{section.ranked[0].run.name}]({page.rpartition('/')[0]}/{section.ranked[0].run.run_id}), "
        f"{_words(board.metric)} {_estimate(section.ranked[0].dev)}."
        for section in board.sections
    ]
    return "\n\n".join([*lines, f"Table: [{PAGE}]({page}/artifacts/{PAGE})"])
