"""Predict: score every row of a file with a registered model.

`mlflow run . -e predict -P input=FILE -P output=FILE`, or `python -m registry.predict --input FILE --output FILE`.
"""

import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from registry.scoring import job
from registry.scoring.config import PredictConfig
from trainer.core import settings, signals
from trainer.core.errors import DataError
from trainer.reporting import console
from trainer.reporting.command import run_cli

if TYPE_CHECKING:
    from registry.scoring.chunk_store import Join, Parts
    from registry.scoring.chunks import Chunk, Source
    from registry.scoring.scorer import Scorer
    from registry.scoring.writers import Form

__all__ = ["SOME_REJECTED", "main", "predict"]

SOME_REJECTED = 3
"""Exit status of a job that has written its output and could not score some rows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a job: 0 when every row was scored, 3 when some were not, 1 on an error that the user can mend."""
    with signals.handled(signals.raise_exit, signal.SIGTERM):
        return run_cli(lambda words: predict(settings.parse(PredictConfig, words), console.make()), argv)


def predict(config: PredictConfig, say: console.Console) -> int:
    """Score the input into the output; returns the exit status. What is finished stays when it is interrupted."""
    job.check_files(config)
    from registry.scoring import (  # they and the model take seconds, and `--help` must not wait for it
        tables_in,
        writers,
    )
    from registry.scoring.chunk_store import Parts
    from registry.scoring.scorer import open_scorer

    output = Path(config.output)
    source = tables_in.open_source(Path(config.input), config.text_column)
    with open_scorer(config.model, config.params) as model, Parts(output) as parts:
        writers.check_columns(source.columns, model.label_names)
        model.check()
        facts = job.describe(config, model)
        _announce(parts.begin(facts), parts, model, say)
        form = writers.form_of(output)
        _score(source, model, parts, form, config.chunk_rows, say)
        if job.describe(config, model) != facts:
            raise DataError(f"input must not change while it is scored, but got input={config.input!r}. Start again.")
        columns = (*source.columns, *writers.added_columns(model.label_names))
        return _finish(config, parts, partial(form.join, columns=columns), say)


def _announce(changed: Sequence[str], parts: "Parts", model: "Scorer", say: console.Console) -> None:
    say.show_note(f"Model: {model.source}, {len(model.label_names)} labels")
    if changed:
        say.show_note(f"Starting over: an unfinished job is there, but these differ now: {', '.join(changed)}.")
    if parts.finished:
        say.show_note(f"Going on after the {parts.rows:,} rows that an earlier command finished.")


def _score(
    source: "Source", model: "Scorer", parts: "Parts", form: "Form", chunk_rows: int, say: console.Console
) -> None:
    """Score and keep the chunks that are not finished yet."""
    chunks = source.chunks(chunk_rows)
    position = max((chunk.position for chunk in islice(chunks, parts.finished)), default=0)
    with say.progress(source.total, position, source.unit) as bar:
        pace = _Pace(bar, position)
        for chunk in chunks:
            answer = model.score(chunk.texts, partial(pace.show, chunk))
            parts.add(partial(form.write_part, chunk=chunk, answer=answer), chunk.rejects, chunk.rows)
            pace.end(chunk)


class _Pace:
    """Where the bar stands, also within a chunk, and how many texts a second are scored."""

    def __init__(self, bar: console.Progress, position: int) -> None:
        self._bar, self._position, self._texts, self._began = bar, position, 0, time.monotonic()

    def show(self, chunk: "Chunk", done: int) -> None:
        """Say that so many texts of the chunk are done."""
        way = (chunk.position - self._position) * done // max(len(chunk.texts), 1)
        speed = (self._texts + done) / (time.monotonic() - self._began)
        self._bar.update(self._position + way, {"rows_per_second": speed})

    def end(self, chunk: "Chunk") -> None:
        """Say that the chunk is finished."""
        self._texts += len(chunk.texts)
        self._position = chunk.position


def _finish(config: PredictConfig, parts: "Parts", join: "Join", say: console.Console) -> int:
    """Publish the output, say what came out, and return the exit status."""
    parts.publish(join)
    rejects = job.rejects_file(Path(config.output))
    if not parts.rows:
        raise DataError(f"input must have rows, but got input={config.input!r}, which has none.")
    if parts.rejected == parts.rows:
        raise DataError(
            f"input must have rows that can be scored, but all {parts.rows:,} of input={config.input!r} are rejected, "
            f"for the reasons in {rejects}."
        )
    say.show_note(f"Scored {parts.rows - parts.rejected:,} of {parts.rows:,} rows: {config.output}")
    if not parts.rejected:
        return 0
    say.show_warning(f"Rejected rows: {parts.rejected:,}. Their reasons are in {rejects} (exit status 3).")
    return SOME_REJECTED


if __name__ == "__main__":
    sys.exit(main())
