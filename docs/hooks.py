"""MkDocs hook: write the reference pages from the code, so that they cannot disagree with it."""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typing_extensions import Doc

_ROOT = Path(__file__).resolve().parents[1]
__all__ = ["entry_points_page", "field_docs", "metrics_page", "on_files", "settings_page"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    if str(_ROOT) not in sys.path:  # the packages need not be installed
        sys.path.insert(0, str(_ROOT))
    pages = {
        "reference/entry-points.md": entry_points_page(),
        "reference/settings.md": settings_page(),
        "reference/metrics.md": metrics_page(),
        "reference/artifacts.md": artifacts_page(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def settings_page() -> str:
    """Markdown tables of every setting of every entry point: name, type, default, help."""
    parts = [
        "# Settings",
        "",
        "Every setting works as `-P name=value` with `mlflow run`, and as `--name value` with `python -m`. "
        "Order: default, then preset, then command line. An unknown name is an error that offers the nearest one.",
    ]
    for name, config_class in entry_point_configs().items():
        parts += ["", f"## {name}", "", f"`python -m {module_of(name)} --help` prints the same list."]
        for title, component in _components(config_class):
            parts += ["", f"### {name}: {title}", "", *_table(component)]
    return "\n".join(parts) + "\n"


def entry_points_page() -> str:
    """Markdown table of the entry points of MLproject with their declared parameters and defaults."""
    parts = [
        "# Entry points",
        "",
        "MLproject declares the parameters below. Every other [setting](settings.md) of the entry point works too: "
        "`mlflow run` passes undeclared parameters on.",
    ]
    for name, entry in _mlproject()["entry_points"].items():
        parts += ["", f"## {name}", "", first_sentence(module_of(name)), ""]
        parts += [f"```bash\nmlflow run . -e {name}\n```"]
        declared = entry.get("parameters", {})
        if declared:
            parts += ["", "| parameter | default |", "|---|---|"]
            parts += [f"| `{key}` | {_code(value.get('default', 'required'))} |" for key, value in declared.items()]
    return "\n".join(parts) + "\n"


def metrics_page() -> str:
    """Markdown table of the metrics and tags that runs log."""
    from trainer.core import descriptions

    parts = ["# Metrics and tags", "", "## Metrics", "", "| metric | meaning |", "|---|---|"]
    parts += [f"| `{name}` | {_cell(text)} |" for name, text in descriptions.METRICS.items()]
    parts += ["", "## Tags", "", "| tag | meaning |", "|---|---|"]
    parts += [f"| `{name}` | {_cell(text)} |" for name, text in descriptions.TAGS.items()]
    return "\n".join(parts) + "\n"


def artifacts_page() -> str:
    """Markdown table of the files in a run folder."""
    from trainer.core import artifacts, descriptions

    parts = [
        "# Files of a run",
        "",
        "A run's results are artifacts in MLflow and files in `runs/RUN_ID`.",
        "",
        "| file | content | in MLflow |",
        "|---|---|---|",
    ]
    uploaded = {True: "yes", False: "no"}
    parts += [
        f"| `{name}` | {_cell(text)} | {uploaded[name in artifacts.UPLOADED or name == artifacts.MODEL]} |"
        for name, text in descriptions.FILES.items()
    ]
    return "\n".join(parts) + "\n"


def entry_point_configs() -> dict[str, type[Any]]:
    """Entry point → its configuration: the module of entry point `b` imports the class `BConfig`."""
    return {
        name: getattr(importlib.import_module(module_of(name)), f"{name.capitalize()}Config")
        for name in _mlproject()["entry_points"]
    }


def module_of(entry_point: str) -> str:
    """Module that an entry point of MLproject runs."""
    command = _mlproject()["entry_points"][entry_point]["command"].split()
    return command[command.index("-m") + 1]


def first_sentence(module: str) -> str:
    """First line of a module's docstring."""
    source = (_ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def field_docs(component: type[Any]) -> dict[str, str]:
    """Field → the docstring under it in the source of a dataclass."""
    body = ast.parse(inspect.cleandoc(inspect.getsource(component))).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _components(config_class: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    hints = get_type_hints(config_class)
    nested = [(field.name, hints[field.name]) for field in fields(config_class) if is_dataclass(hints[field.name])]
    yield from nested or [("all", config_class)]


def _table(component: type[Any]) -> list[str]:
    hints, docs = get_type_hints(component, include_extras=True), field_docs(component)
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(component):
        hint = hints[field.name]
        text = _cell(_help(hint, docs[field.name]))
        rows.append(f"| `{field.name}` | {_type_name(hint)} | {_code(getattr(component(), field.name))} | {text} |")
    return rows


def _help(hint: Any, docstring: str) -> str:
    """Help of a field: its `Doc`, where help derives from a table, else its docstring."""
    extras = getattr(hint, "__metadata__", ())
    return next((extra.documentation for extra in extras if isinstance(extra, Doc)), docstring)


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if issubclass(hint, str):  # free text has a type of its own
        return "text"
    return {int: "integer", float: "number", bool: "`true`, `false`"}.get(hint, str(hint))


def _code(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _mlproject() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_ROOT / "MLproject").read_text(encoding="utf-8"))
    return content
