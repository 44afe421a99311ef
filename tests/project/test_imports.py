"""Imports point one way, and `--help` waits for nothing slow. Read from the source: nothing is imported."""

import ast
import graphlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainer.serving import runtime

# What each part may import of ours; the longest name that fits a module decides.
_LEAVES = ("trainer.core", "trainer.evaluation", "trainer.tracking", "trainer.reporting", "trainer.runs")
_OF_TRAINER = (*_LEAVES, "trainer.config", "trainer.data.sources")
_ARROWS = {
    "trainer": ("trainer",),
    "trainer.core": ("trainer.core",),
    "trainer.evaluation": ("trainer.core", "trainer.evaluation"),
    "trainer.tracking": ("trainer.core", "trainer.tracking"),
    "trainer.reporting": ("trainer.core", "trainer.evaluation", "trainer.reporting"),
    "trainer.runs": _LEAVES,
    "trainer.data": ("trainer.core", "trainer.data"),
    "trainer.model": ("trainer.core", "trainer.model"),
    "trainer.fit": (
        *("trainer.core", "trainer.evaluation", "trainer.tracking"),
        *("trainer.data", "trainer.model", "trainer.fit"),
    ),
    "trainer.serving": (
        *("trainer.core", "trainer.evaluation", "trainer.reporting"),
        *("trainer.data", "trainer.model", "trainer.serving"),
    ),
    "trainer.launch": ("trainer.core", "trainer.launch"),
    "trainer.service": ("trainer.core", "trainer.service"),
    # It scores files with the code that a served model packs, and compares that code by its digest.
    # It serves them with the class that MLflow loads.
    "registry": (
        *(*_OF_TRAINER, "trainer.serving.runtime", "trainer.serving.opening"),
        *("trainer.serving.scoring", "trainer.serving.pyfunc_model"),
        "registry",
    ),
    # The table of losses has the settings that each loss reads; a space is varied by them.
    "tuning": (*_OF_TRAINER, "trainer.model.losses.table", "tuning"),
}
_PACKAGES = (
    *(name for name in _ARROWS if name.startswith("trainer.")),
    *("registry.promotion", "registry.store", "registry.scoring", "registry.serving"),
    *("tuning.space", "tuning.study", "tuning.execution", "tuning.finals", "tuning.analysis", "tuning.reporting"),
    "tuning.ranking",
    "tuning.comparison",
)
_OURS = ("trainer", "registry", "tuning", "tests")
_HUGGING_FACE = ("torch", "transformers", "accelerate", "datasets")
_NEVER = dict.fromkeys((*_LEAVES, "registry", "tuning"), _HUGGING_FACE)
_SLOW = (*_HUGGING_FACE, "mlflow", "pandas", "matplotlib", "scipy", "sklearn", "pyarrow")


@dataclass(frozen=True)
class Import:
    """One imported name; `eager` when importing the module imports it too."""

    name: str
    line: int
    eager: bool


def read_modules(root):
    """Imports of every module of ours, by module name."""
    files = [path for folder in _OURS[:3] for path in sorted((root / folder).rglob("*.py"))]
    names = {_module_name(path.relative_to(root)) for path in files}
    return {_module_name(path.relative_to(root)): read_imports(path.read_text(), names) for path in files}


def read_imports(source, modules=frozenset()):
    """Imports in the text of a module; `from package import name` means `package.name` where that is a module."""
    return list(_walk(ast.parse(source), modules, eager=True))


def forbidden(name, imports):
    """Sentences on the imports of module `name` that go against the arrows."""
    allowed = _ARROWS[_longest(name, _ARROWS)]
    never = _NEVER.get(_longest(name, _NEVER), ())
    return [
        f"{name}:{one.line} imports {one.name}"
        for one in imports
        if (_within(one.name, _OURS) and not _within(one.name, allowed)) or _within(one.name, never)
    ]


def loaded_by(name, modules):
    """Names of our modules that `import name` loads, itself included."""
    seen, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in modules and current not in seen:
            seen.add(current)
            eager = [one.name for one in modules[current] if one.eager]
            waiting += [part for other in (current, *eager) for part in (other, *_parents(other))]
    return seen


def package_imports(modules):
    """Package of ours -> the other packages that its modules import, lazily or not."""
    graph = {}
    for name, imports in modules.items():
        package = _longest(name, _PACKAGES) or name
        used = {_longest(one.name, _PACKAGES) for one in imports}
        graph.setdefault(package, set()).update(used - {None, package})
    return graph


def slow_imports(name, modules):
    """Sentences on the slow packages that `import name` loads, each with the module that asks for it."""
    return [
        f"{loaded}:{one.line} imports {one.name}"
        for loaded in sorted(loaded_by(name, modules))
        for one in modules[loaded]
        if one.eager and _within(one.name, _SLOW)
    ]


@pytest.fixture(scope="module")
def modules(root):
    return read_modules(root)


def test_every_package_is_read(modules):
    for package in _PACKAGES:
        assert [name for name in modules if name.startswith(f"{package}.")], f"no module of {package} was found"
    assert len(modules) > 30


def test_every_import_follows_the_arrows(modules):
    assert [text for name, imports in modules.items() for text in forbidden(name, imports)] == []


def test_no_packages_and_no_modules_import_each_other(modules):
    between_modules = {
        name: {one.name for one in imports if one.name in modules} - {name} for name, imports in modules.items()
    }
    for graph in (package_imports(modules), between_modules):
        order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
        assert len(order) >= len(graph)


def test_a_planted_circle_is_found():
    modules = {
        "tuning.study.storage": read_imports("import tuning.space.parser"),
        "tuning.space.parser": read_imports("def f():\n    from tuning.study.storage import open_storage"),
    }

    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(package_imports(modules)).prepare()


def test_the_table_of_the_architecture_page_states_the_arrows(root):
    page = (root / "docs/explanations/architecture.md").read_text(encoding="utf-8")
    stated = {}
    for line in [line for line in page.splitlines() if line.startswith("| `")]:
        packages, imports = (re.findall(r"`([\w.]+)`", cell) for cell in line.strip("| ").split(" | "))
        stated |= {name: {f"trainer.{one.removeprefix('trainer.')}" for one in imports} for name in packages}

    assert {name: stated[name] for name in _ARROWS if name != "trainer"} == {
        name: set(allowed) - {name} for name, allowed in _ARROWS.items() if name != "trainer"
    }


def test_training_loads_packaging_only_when_needed(modules):
    assert "trainer.config" in loaded_by("trainer.train", modules)
    assert not {"trainer.serving.packaging", "trainer.serving.model_card"} & loaded_by("trainer.train", modules)


def test_the_code_of_a_served_model_is_complete(modules):
    """Every import of ours in it is `from trainer.… import`, of a module that is in it too; others are pinned."""
    packed = {f"trainer.{name}" for name in runtime.MODULES}
    imports = [(name, one) for name in sorted(packed) for one in modules[name]]
    ours = {(name, one.name) for name, one in imports if _within(one.name, _OURS)}
    brought_by_torch = {"typing_extensions"}
    installed = {"yaml" if name == "PyYAML" else name for name in runtime.SERVED_PACKAGES} | brought_by_torch

    assert {(name, other) for name, other in ours if other not in packed} == set()
    assert packed == loaded_by("trainer.serving.scoring", modules) & packed
    assert not [
        f"{name}:{one.line} imports {one.name}"
        for name, one in imports
        if one.eager and one.name.split(".")[0] not in {*sys.stdlib_module_names, *installed, "trainer"}
    ]


def test_nothing_imports_tests_or_relative_names(modules):
    assert [name for name, imports in modules.items() for one in imports if _within(one.name, ("tests", "."))] == []


def test_settings_and_entry_points_load_nothing_slow(modules, root):
    light = [
        name
        for name in modules
        if name.endswith(".config") or name in ("trainer.core.settings", "trainer.data.sources")
    ]
    entry_points = [name for name in modules if _is_entry_point(root / f"{name.replace('.', '/')}.py")]

    assert {"trainer.config", "trainer.fit.config"} <= set(light)
    assert "trainer.train" in entry_points
    assert [text for name in (*light, *entry_points) for text in slow_imports(name, modules)] == []


@pytest.mark.parametrize(
    ("name", "source", "caught"),
    [
        ("trainer.evaluation.metrics", "from trainer.data import dataset", True),
        ("trainer.evaluation.metrics", "def f():\n    import torch.nn", True),
        ("trainer.evaluation.metrics", "import torchvision_like", False),
        ("trainer.data.source", "import trainer.model", True),
        ("trainer.data.source", "from trainer.core.errors import DataError", False),
        ("trainer.model.losses", "from trainer.fit import loop", True),
        ("trainer.fit.loop", "import trainer.serving.packaging", True),
        ("trainer.pipeline", "def f():\n    from trainer.serving import packaging", False),
        ("trainer.evaluation.metrics", "from trainer.tracking import tracker", True),
        ("registry.promotion.gate", "from trainer.evaluation import metrics", False),
        ("registry.promotion.gate", "from trainer.data import sources", False),
        ("registry.promotion.gate", "from tuning.study import storage", True),
        ("trainer.pipeline", "def f():\n    from registry import promote", True),
        ("trainer.serving.model_card", "from registry import promote", True),
        ("registry.promotion.gate", "from trainer.model import encoder", True),
        ("trainer.serving.packaging", "from trainer.model import encoder", False),
        ("tuning.study.storage", "from registry import aliases", True),
        ("tuning.study.storage", "import importlib\nimportlib.import_module('transformers')", True),
    ],
)
def test_a_planted_import_is_judged(name, source, caught):
    modules = {
        *("trainer.serving.packaging", "trainer.serving.model_card", "trainer.data.dataset", "trainer.data.sources"),
        *("trainer.evaluation.metrics", "trainer.tracking.tracker", "tuning.study.storage"),
        *("registry.promote", "registry.store.aliases"),
    }

    assert bool(forbidden(name, read_imports(source, modules))) is caught


def test_slow_imports_are_found_through_other_modules():
    modules = {
        "trainer": [],
        "trainer.config": read_imports("from trainer.losses import bce"),
        "trainer.losses": read_imports("import torch\ndef f():\n    import scipy"),
        "trainer.lazy": read_imports("if TYPE_CHECKING:\n    import torch\ndef f():\n    import trainer.losses"),
    }

    assert slow_imports("trainer.config", modules) == ["trainer.losses:1 imports torch"]
    assert slow_imports("trainer.lazy", modules) == []


def _walk(node, modules, *, eager):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, eager) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from _from(child, modules, eager)
        elif isinstance(child, ast.Call) and _is_dynamic(child):
            yield Import(child.args[0].value, child.lineno, eager)
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(child)
        yield from _walk(child, modules, eager=eager and not lazy)


def _from(node, modules, eager):
    package = "." if node.level else node.module
    for alias in node.names:
        full = f"{package}.{alias.name}"
        yield Import(full if full in modules else package, node.lineno, eager)


def _is_dynamic(call):
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("import_module", "__import__") and bool(call.args) and isinstance(call.args[0], ast.Constant)


def _is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _is_entry_point(path: Path):
    return path.is_file() and 'if __name__ == "__main__":' in path.read_text()


def _module_name(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _parents(name):
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _within(name, prefixes):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _longest(name, prefixes):
    return max((prefix for prefix in prefixes if _within(name, (prefix,))), key=len, default=None)
