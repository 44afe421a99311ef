"""The steps of an evaluation, in the order in which `trainer.evaluate` calls them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainer.core import artifacts, environment, run_folder, text_files
from trainer.core.errors import SettingsError
from trainer.core.groups import group_numbers
from trainer.core.settings import flatten, quote
from trainer.data import predictions_file, sources
from trainer.data.sources import LoadedSplit
from trainer.evaluating import report
from trainer.evaluating.config import MAPPINGS, EvaluateConfig
from trainer.evaluating.judging import Judged, judge, paired_systems, second_name, verdicts
from trainer.evaluating.selection import Selection, select_examples
from trainer.evaluating.systems import Evaluated, open_evaluated
from trainer.evaluation import label_mapping
from trainer.evaluation.arrays import IntArray
from trainer.evaluation.comparison import compare_systems
from trainer.evaluation.comparison_results import Comparison
from trainer.evaluation.evaluation import Evaluation, evaluate_predictions
from trainer.evaluation.label_mapping import LabelMapping
from trainer.evaluation.resampling import Resampling
from trainer.reporting import console, summary
from trainer.reporting.optional import attempt
from trainer.reporting.report import write_report
from trainer.runs import results, tables
from trainer.runs.tables import JudgedSplit
from trainer.tracking.connection import rely_on_event_log
from trainer.tracking.run import Tracker, open_run

__all__ = ["EvaluationRun", "open_evaluation"]

_COMPARISON_RESAMPLES = 10  # times those of an interval: p-values have to be smaller than a tenth of a level


@dataclass(frozen=True)
class EvaluationRun:
    """An open run: its settings, tracker and terminal."""

    config: EvaluateConfig
    mapping: LabelMapping | None
    tracker: Tracker
    folder: Path
    screen: console.Console

    def load_data(self) -> LoadedSplit:
        """Return the split, and log it as input of the run."""
        config = self.config
        if not config.dataset and not predictions_file.has_labels(Path(config.predictions), config.data):
            raise SettingsError(
                f"`dataset` must be given, because {quote(config.predictions)} has no column of labels "
                f"({config.label_column}). Name the data set, or the column with label_column."
            )
        data = sources.load_split(config.data, config.split)
        profile = {"rows": len(data.split), "labels": len(data.label_names)}
        digest = data.split.digest
        self.tracker.log_dataset(data.name, digest, config.split, data.source, profile, data.label_names)
        short = {f"{artifacts.TAG_DATA_DIGEST}.{config.split}": digest[: artifacts.SHORT_DIGEST]}
        self.tracker.set_tags(short)
        return data

    @contextmanager
    def open_systems(self, data: LoadedSplit) -> Iterator[list[Evaluated]]:
        """Give the model or predictions to evaluate, and after it the one to compare with, if any."""
        addresses = [self.config.predictions or self.config.model, self.config.compared]
        with ExitStack() as stack:
            yield [
                stack.enter_context(open_evaluated(address, self.config, data.label_names))
                for address in addresses
                if address
            ]

    def select(self, data: LoadedSplit, systems: Sequence[Evaluated]) -> Selection:
        """Return the examples to score."""
        return select_examples(data.split, [one.facts for one in systems], self.config.seen_texts)

    def judge(self, data: LoadedSplit, selection: Selection, system: Evaluated) -> Judged:
        """Return the answers of a system, in the labels that it shares with the data."""
        self.screen.show_note(f"Scoring {len(selection.kept):,} examples with {system.facts.source}")
        return judge(data, selection.kept, system, self.mapping)

    def measure(self, data: LoadedSplit, selection: Selection, judged: Judged) -> Evaluation:
        """Return the scores with intervals; nothing is fitted."""
        return evaluate_predictions(
            judged.scores,
            judged.decisions,
            resampling=Resampling(num_resamples=self.config.bootstrap_resamples, seed=self.config.seed),
            groups=self._groups(data, selection),
            split=self.config.split,
        )

    def compare(self, data: LoadedSplit, selection: Selection, judged: Sequence[Judged]) -> Comparison | None:
        """Return the paired comparison of two systems; None where there is one.

        Raises SettingsError when they were scored on other labels.
        """
        if len(judged) < 2:
            return None
        first, second = judged
        resamples = _COMPARISON_RESAMPLES * self.config.bootstrap_resamples
        return compare_systems(
            first.scores,
            paired_systems(first, second),
            planned=[(first.facts.name, second_name(first, second))],
            min_effect=self.config.min_effect,
            resampling=Resampling(num_resamples=resamples, seed=self.config.seed),
            groups=self._groups(data, selection),
        )

    def save(
        self,
        data: LoadedSplit,
        selection: Selection,
        judged: Sequence[Judged],
        evaluation: Evaluation,
        comparison: Comparison | None,
    ) -> list[str]:
        """Write every result to the run folder and log it. Return the warnings."""
        main, config = judged[0], self.config
        split = self._judged_split(data, selection, main)
        warnings = [
            *selection.warnings,
            *(text for one in judged for text in one.facts.warnings),
            *report.label_warnings(data, main, self.mapping),
            *summary.absent_labels(evaluation),
            *data.warnings,
        ]
        facts = report.facts(data, selection.facts, judged, self.mapping)
        compared = {"comparison": asdict(comparison)} if comparison else {}
        text_files.write_json(self.folder / artifacts.EVALUATION, facts | compared | {"warnings": warnings})
        text_files.write_json(self.folder / artifacts.LABELS, list(evaluation.label_names))
        results.write_label_table(self.folder, evaluation)
        tables.write_judged(self.folder, split)
        metrics = evaluation.test_metrics() | _comparison_metrics(comparison)
        tables.write_scores(self.folder, metrics, (config.split,))
        tables.write_errors(self.folder, [split])
        tables.write_missed_labels(self.folder, [split])
        resampling = Resampling(num_resamples=config.bootstrap_resamples, seed=config.seed)
        tables.write_slices(self.folder, [split], resampling)
        if not selection.has_seen:  # a model agrees with the labels that it was trained on
            attempt("the table of suspected label errors", lambda: tables.write_label_errors(self.folder, [split]))
        self._write_report(data, judged, evaluation, comparison, facts, warnings)
        self._log(data, selection, judged, metrics)
        text_files.write_json(self.folder / artifacts.OUTCOME, metrics)
        return warnings

    def print_results(self, evaluation: Evaluation, comparison: Comparison | None, warnings: Sequence[str]) -> None:
        """Print the warnings, the scores, the verdict, and where the report is."""
        for text in warnings:
            self.screen.show_warning(text)
        page = run_folder.found_again(self.folder) / artifacts.REPORT
        self.screen.show_result(
            summary.policy_scores(evaluation),
            summary.label_scores(evaluation),
            [
                *verdicts(comparison),
                *([f"report:   {page}"] if page.is_file() else []),
                f"run:      {self.tracker.run_id}, in `mlflow ui` or on your tracking server",
            ],
            split=self.config.split,
        )

    def _groups(self, data: LoadedSplit, selection: Selection) -> IntArray | None:
        column = self.config.group_column
        return group_numbers([data.split.columns[column][i] for i in selection.kept]) if column else None

    def _judged_split(self, data: LoadedSplit, selection: Selection, judged: Judged) -> JudgedSplit:
        split = data.split.take(selection.kept)
        return JudgedSplit(
            role=self.config.split,
            scores=judged.scores,
            predictions=judged.predictions,
            example_ids=split.example_ids,
            texts=split.texts,
            columns=split.columns,
            groups=self._groups(data, selection),
        )

    def _write_report(
        self,
        data: LoadedSplit,
        judged: Sequence[Judged],
        evaluation: Evaluation,
        comparison: Comparison | None,
        facts: Mapping[str, Any],
        warnings: Sequence[str],
    ) -> None:
        main = judged[0]
        figures = attempt(
            "the figures",
            lambda: results.write_evaluation_figures(self.folder, evaluation, main.scores, main.predictions),
        )
        content = attempt(
            "the content of the report",
            lambda: report.report_data(self.config, self.folder, main, evaluation, facts),
        )
        if content is None:
            return
        content = replace(
            content,
            summary=[*verdicts(comparison), *content.summary],
            pictures=report.pictures(figures or [], self.config.split),
            warnings=warnings,
        )
        attempt(f"the report {artifacts.REPORT}", lambda: write_report(self.folder / artifacts.REPORT, content))

    def _log(
        self, data: LoadedSplit, selection: Selection, judged: Sequence[Judged], metrics: Mapping[str, float]
    ) -> None:
        main, split = judged[0], self.config.split
        wanted = {name.replace("test/", f"{split}/", 1) for name in artifacts.HEADLINES if name.startswith("test/")}
        shown = {name: value for name, value in metrics.items() if name in wanted or name.startswith("comparison/")}
        self.tracker.log_evaluation(main.facts.model_id, (data.name, data.split.digest), shown)
        tags = {artifacts.TAG_MODEL_SOURCE: main.facts.source, artifacts.TAG_MODEL_DIGEST: main.facts.digest}
        self.tracker.set_tags({name: text for name, text in tags.items() if text})
        self.tracker.log_artifacts()
        self.tracker.tag_tables(results.table_names(self.folder))
        note = report.run_note(data, main, metrics, split, self.tracker.page)
        self.tracker.set_tags({artifacts.TAG_NOTE: "\n\n".join([note, *selection.warnings])})


def _comparison_metrics(comparison: Comparison | None) -> dict[str, float]:
    if comparison is None:
        return {}
    (pair,) = comparison.pairs
    names = ("difference", "low", "high", "p_value", "detectable")
    return {artifacts.metric("comparison", name): getattr(pair, name) for name in names}


@contextmanager
def open_evaluation(config: EvaluateConfig) -> Iterator[EvaluationRun]:
    """Open a run with these settings on the tracking server; it ends with the status of the block."""
    output, settings = Path(config.output), flatten(config)
    if not config.dataset and not config.predictions:
        raise SettingsError("`dataset` must name a data set or a labelled file, got an empty value.")
    mapping = label_mapping.read_mapping(config.label_mapping, MAPPINGS) if config.label_mapping else None
    run_folder.check_output(output)
    rely_on_event_log()
    facts = environment.describe()

    def prepare(folder: Path) -> None:
        text_files.write_json(folder / artifacts.ENVIRONMENT, facts)
        text_files.write_json(folder / artifacts.EVALUATE, settings)

    parameters = {name: value for name, value in settings.items() if value not in ("", -1.0) and name != "output"}
    tags = {artifacts.TAG_COMMAND: "evaluate"}
    with open_run(output, prepare, name=_run_name(config), parameters=parameters, tags=tags) as tracker:
        tracker.store_artifact(artifacts.EVALUATE)
        yield EvaluationRun(config, mapping, tracker, tracker.folder, console.make())


def _run_name(config: EvaluateConfig) -> str:
    model = config.predictions or config.model
    short = model.removeprefix("models:/").lstrip("/") if model.startswith("models:") else Path(model).name
    return f"{short} on {Path(config.dataset or config.predictions).name}"
