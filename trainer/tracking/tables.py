"""Artifacts in the form of `mlflow.log_table`: `mlflow.load_table` reads them and the UI shows them as tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["as_table", "table_tags"]


def as_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What such a file holds; columns in the order in which they first occur, null where a row lacks one."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]}


def table_tags(names: Iterable[str]) -> dict[str, str]:
    """The tag by which a run tells MLflow that its artifacts of these names are tables."""
    return {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"} for name in names])}
