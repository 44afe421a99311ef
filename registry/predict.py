"""Predict: score every row of a file with a registered model.

`mlflow run . -e predict -P input=FILE -P output=FILE`, or `python -m registry.predict --input FILE --output FILE`.
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from registry.scoring import job
from registry.scoring.config import PredictConfig
from trainer.core import settings
from trainer.core.errors import DataError
from trainer.core.redaction import redact
from trainer.core.run_folder import found_again
from trainer.reporting import console
from trainer.reporting.command import run_cli
from trainer.tracking import page
from trainer.tracking.connection import connect, describe_error
from trainer.tracking.run import report_failure

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from registry.scoring.chunk_store import ChunkStore
    from registry.scoring.readers import Chunk, Reader
    from registry.scoring.scorer import Scorer
    from registry.scoring.writers import Writer

__all__ = ["SOME_REJECTED", "main", "predict"]

_EXAMPLE = "mlflow run . -e predict -P input=texts.csv -P output=labels.parquet"

SOME_REJECTED = 3
"""Exit status when the output is written and some rows were rejected."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 when every row was scored, 3 when some were rejected, 1 after an error of the user."""
    return run_cli(
        lambda arguments: predict(settings.parse(PredictConfig, arguments, example=_EXAMPLE), console.make()),
        argv,
        report_failure,
    )


def predict(config: PredictConfig, screen: console.Console) -> int:
    """Score the input into the output and return the exit status. An interrupted job keeps its complete chunks."""
    run_id, began = os.environ.get("MLFLOW_RUN_ID"), time.monotonic()  # `mlflow run` sets the id
    job.check_files(config)
    from registry.scoring import readers, writers  # these and the model load for seconds, `--help` does not need them
    from registry.scoring.chunk_store import ChunkStore
    from registry.scoring.scorer import open_scorer

    output = Path(config.output)
    reader = readers.open_reader(Path(config.input), config.text_column)
    with open_scorer(config.model, config.choice) as scorer, ChunkStore(output) as store:
        writers.check_columns(reader.columns, scorer.label_names)
        fingerprint = job.fingerprint(config, scorer)
        if not store.has(fingerprint):  # the output may be that of another job, which was killed at its end
            job.check_new(output, overwrite=config.overwrite)
        _show_start(store.open_job(fingerprint), store, scorer, screen)
        writer = writers.writer_for(output)
        _score(reader, scorer, store, writer, config.chunk_rows, screen)
        # Before the output exists: its chunks may be of two versions of the input.
        if job.fingerprint(config, scorer) != fingerprint:
            raise DataError(f"`input` {config.input} changed while it was scored. Run the same command again.")
        columns = (*reader.columns, *writers.added_columns(scorer.label_names))
        store.publish(partial(writer.join, columns=columns))
        if run_id:
            _log_to_run(run_id, config, scorer, store, time.monotonic() - began, screen)
        return _finish(config, store, screen)


def _show_start(changed: Sequence[str], store: "ChunkStore", scorer: "Scorer", screen: console.Console) -> None:
    screen.show_note(f"Model: {scorer.source}, {len(scorer.label_names)} labels")
    if scorer.warning:
        screen.show_warning(scorer.warning)
    if changed:
        screen.show_note(f"Starting over: these differ from the unfinished job: {', '.join(changed)}.")
    if store.chunks:
        screen.show_note(f"Continuing after the {store.rows:,} rows that an earlier command finished.")


def _score(
    reader: "Reader",
    scorer: "Scorer",
    store: "ChunkStore",
    writer: "Writer",
    chunk_rows: int,
    screen: console.Console,
) -> None:
    """Score and store the chunks that the store does not have."""
    chunks = reader.chunks(chunk_rows)
    # Stored chunks are read again: the text formats have no index to skip them by.
    position = max((chunk.position for chunk in islice(chunks, store.chunks)), default=0)
    with screen.progress(reader.total, position, reader.unit) as bar:
        progress = _ChunkProgress(bar, position)
        for chunk in chunks:
            prediction = scorer.score(chunk.texts, partial(progress.show, chunk))
            store.add(partial(writer.write_part, chunk=chunk, prediction=prediction), chunk.rejects, chunk.rows)
            progress.end(chunk)


class _ChunkProgress:
    """Moves the bar, also within a chunk, and shows the rows per second."""

    def __init__(self, bar: console.Progress, position: int) -> None:
        self._bar, self._position, self._texts, self._began = bar, position, 0, time.monotonic()

    def show(self, chunk: "Chunk", done: int) -> None:
        """Show that `done` texts of the chunk are scored."""
        within = (chunk.position - self._position) * done // max(len(chunk.texts), 1)
        speed = (self._texts + done) / (time.monotonic() - self._began)
        self._bar.update(self._position + within, {"rows_per_second": speed})

    def end(self, chunk: "Chunk") -> None:
        """Count the chunk as complete."""
        self._texts += len(chunk.texts)
        self._position = chunk.position


def _log_to_run(  # all that the page says of a job
    run_id: str, config: PredictConfig, scorer: "Scorer", store: "ChunkStore", seconds: float, screen: console.Console
) -> None:
    """Log what scored how many rows to the run of `mlflow run`; the output is complete without it."""
    numbers = {"predict/rows": store.rows, "predict/rejected_rows": store.rejected, "predict/seconds": seconds}
    version = scorer.source.removeprefix("models:/")
    note = (
        f"Scored {store.rows - store.rejected:,} of {store.rows:,} rows of {redact(config.input)} in "
        f"{seconds:.1f} seconds with {redact(scorer.source)}. Rejected rows: {store.rejected:,}. "
        f"Output: {redact(config.output)}"
    )
    try:
        client = connect().client
        page.describe_command(client, run_id, f"predict {redact(version)}", note)
        client.log_param(run_id, "scored_with", scorer.source)
        for name, value in numbers.items():
            client.log_metric(run_id, name, value)
        _link_model(client, run_id, version)
    except Exception as error:  # the output is complete: no error of the server may fail the job
        screen.show_warning(f"Cannot log the numbers of this job to run {run_id}: {describe_error(error)}")


def _link_model(client: "MlflowClient", run_id: str, version: str) -> None:
    """Make the logged model behind `NAME/VERSION` an input of the run, which MLflow's page links."""
    from mlflow.entities import LoggedModelInput

    name, _, number = version.rpartition("/")
    if not name or not number.isdecimal():  # `runs:/…` or a folder
        return
    source = client.get_model_version(name, number).source or ""
    if source.startswith("models:/m-"):
        client.log_inputs(run_id, models=[LoggedModelInput(source.removeprefix("models:/"))])


def _finish(config: PredictConfig, store: "ChunkStore", screen: console.Console) -> int:
    rejects = job.rejects_file(Path(config.output))
    if not store.rows:
        raise DataError(f"`input` must have rows, got {config.input} without any.")
    if store.rejected == store.rows:
        raise DataError(f"No row of `input` {config.input} can be scored: all {store.rows:,} are listed in {rejects}.")
    output = found_again(Path(config.output))
    screen.show_note(f"Scored {store.rows - store.rejected:,} of {store.rows:,} rows: {output}")
    if not store.rejected:
        return 0
    screen.show_warning(f"Rejected rows: {store.rejected:,}. Their reasons are in {rejects} (exit status 3).")
    return SOME_REJECTED


if __name__ == "__main__":
    sys.exit(main())
