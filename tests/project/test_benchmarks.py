"""The benchmarks are complete and print what they promise; speed itself is never asserted."""

from tests.benchmarks import run, thresholds
from tests.benchmarks.measure import COLUMNS, Row, Table

_NOT_BENCHMARKS = {"run", "measure", "contenders", "materials", "served"}


def test_every_benchmark_is_run_by_make_bench(root):
    files = {path.stem for path in (root / "tests" / "benchmarks").glob("*.py")} - _NOT_BENCHMARKS

    assert files == set(run.BENCHMARKS)
    assert len(files) == 8


def test_thresholds_on_few_rows_have_a_table_with_the_named_columns():
    (table,) = thresholds.measure(1, num_rows=60, num_labels=3)

    _, header, *rows = table.text().splitlines()
    assert tuple(header.split()) == COLUMNS
    assert len(rows) == len(table.rows) == 4
    assert table.rows[3].ours[0] >= 0  # exact cuts are never worse on the rows they are fitted on


def test_ratio_says_how_many_times_better_ours_is():
    slower = Row(measure="s", ours=[4.0, 4.0], reference=[2.0, 1.0], at_least=1)
    faster = Row(measure="samples/s", ours=[6.0], reference=[2.0], more_is_better=True, at_least=3)

    assert slower.cells() == ("s", "1.5", "4", "0.375", "0.25 to 0.5", "at least 1: aim missed")
    assert faster.cells()[3:] == ("3", "3 to 3", "at least 3: aim met")


def test_a_skipped_benchmark_says_why():
    assert Table(title="training", note="skipped: no model").text() == "training\n  skipped: no model"
