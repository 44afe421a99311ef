"""The entry points of MLproject with their modules and configurations, by convention: the module `a.b` of the entry
point `b` imports a configuration class `BConfig`."""

import importlib
from pathlib import Path

import yaml

MLPROJECT = Path(__file__).parents[2] / "MLproject"
ENTRY_POINTS = yaml.safe_load(MLPROJECT.read_text())["entry_points"]
MODULES = {name: block["command"].split()[2] for name, block in ENTRY_POINTS.items()}
SETTINGS_OF = {
    name: getattr(importlib.import_module(module), f"{name.capitalize()}Config") for name, module in MODULES.items()
}
