"""Entry point `leaderboard`: lists the finished training runs of an experiment by their score on dev.

`mlflow run . -e leaderboard -P experiment=emotions`, or `python -m tuning.leaderboard --top 50`.
"""

import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from trainer.core import artifacts, settings
from trainer.reporting.command import run_cli
from trainer.tracking.run import open_run, report_failure
from tuning.ranking.config import LeaderboardConfig

__all__ = ["leaderboard", "main"]

_EXAMPLE = "mlflow run . -e leaderboard -P experiment=NAME -P top=50"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when there is a leaderboard, 1 on an error such as an experiment without a finished training run."""
    return run_cli(
        lambda given: leaderboard(settings.parse(LeaderboardConfig, given, example=_EXAMPLE)), argv, report_failure
    )


def leaderboard(config: LeaderboardConfig) -> None:
    """Read the runs, rank them, and leave the table in the terminal and in this command's own run."""
    from trainer.evaluation.bootstrap import Resampling  # these load numpy, which `--help` does not need
    from trainer.reporting import console
    from trainer.runs.download import fetch_artifacts
    from trainer.runs.predicted_labels import needed_files
    from trainer.tracking.connection import connect, readable_errors
    from tuning.ranking import report, runs, scores, versions

    backend, output = connect(), Path(config.output)
    with readable_errors(backend):
        experiment = runs.find_experiment(backend.client, config.experiment)
        found = runs.read_runs(backend.client, experiment, config.metric)
    parameters, tags = settings.flatten(config), {artifacts.TAG_COMMAND: "leaderboard"}
    name = f"leaderboard {experiment.name}"
    with (
        open_run(output, name=name, experiment=experiment.name, parameters=parameters, tags=tags) as tracker,
        readable_errors(backend),
    ):
        fetch = partial(fetch_artifacts, backend.client, names=needed_files("dev"), output=output)
        resampling = Resampling(num_resamples=config.bootstrap_resamples)
        sections = []
        for group in found.groups:
            ranked = scores.rank_runs(group.runs[: config.top], config.metric, fetch, resampling)
            registered = versions.find_versions(backend.client, [one.run.run_id for one in ranked])
            sections.append(report.Section(group=group, ranked=ranked, versions=registered))
        board = report.Leaderboard(
            experiment=experiment.name,
            metric=config.metric,
            sections=sections,
            others=found.others,
            resamples=config.bootstrap_resamples,
            written=datetime.now().astimezone().isoformat(timespec="minutes"),
        )
        report.write_files(tracker.folder, board)
        for file in (report.JSON, report.PAGE):
            tracker.log_artifact(file)
        tracker.set_tags({artifacts.TAG_NOTE: report.note(board, tracker.page)})
        screen = console.make()
        report.show(screen, board)
        screen.show_note(f"page: {tracker.folder / report.PAGE}")


if __name__ == "__main__":
    sys.exit(main())
