"""MLproject: every entry point has a module, a configuration and declared parameters with the defaults of both."""

import pytest
import yaml
from entry_points import ENTRY_POINTS, MLPROJECT, MODULES, SETTINGS_OF
from mlflow.projects._project_spec import load_project

from trainer.config import PRESETS
from trainer.core import presets, settings


def test_every_module_at_the_top_of_a_package_that_can_be_started_is_an_entry_point(root):
    files = [path for package in ("trainer", "tuning", "registry") for path in (root / package).glob("*.py")]
    started = {f"{path.parent.name}.{path.stem}" for path in files if 'if __name__ == "__main__"' in path.read_text()}
    assert started == set(MODULES.values())


def test_the_environment_is_conda_yaml():
    project = yaml.safe_load(MLPROJECT.read_text())
    assert project["conda_env"] == "conda.yaml"
    assert not {"python_env", "docker_env"} & set(project)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_declared_defaults_are_those_of_the_configuration(name):
    parameters = ENTRY_POINTS[name]["parameters"]
    assert {parameter["type"] for parameter in parameters.values()} == {"string"}  # MLflow checks no other type
    declared = {setting: block["default"] for setting, block in parameters.items() if "default" in block}
    known = settings.flatten(SETTINGS_OF[name]())
    required = {setting: known[setting] for setting in parameters.keys() - declared.keys()}
    assert declared == {setting: settings.show(known[setting]) for setting in declared}
    assert set(required.values()) <= {""}


def test_no_declared_default_of_train_overrides_a_preset():
    declared = ENTRY_POINTS["train"]["parameters"].keys()
    for preset in presets.preset_names(PRESETS):
        assert not declared & presets.load_preset(preset, PRESETS).keys()


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_command_gives_each_declared_parameter_once_and_leaves_quoting_to_mlflow(name):
    module, *flags = ENTRY_POINTS[name]["command"].removeprefix("python -m ").split(" --")
    assert module.rpartition(".")[2] == name
    assert flags == [f"{parameter}={{{parameter}}}" for parameter in ENTRY_POINTS[name]["parameters"]]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_command_that_mlflow_builds_is_parsed_to_the_defaults(name, root):
    """As `mlflow run . -e NAME` would start it, with one undeclared parameter of train where train is meant."""
    import shlex

    entry_point = load_project(str(root)).get_entry_point(name)
    given = {setting: "a.csv" for setting, block in ENTRY_POINTS[name]["parameters"].items() if "default" not in block}
    python, _, module, *argv = shlex.split(entry_point.compute_command(given, None))
    assert (python, module) == ("python", MODULES[name])
    folder = PRESETS if name == "train" else None
    config = settings.flatten(settings.parse(SETTINGS_OF[name], argv, folder))
    expected = settings.flatten(SETTINGS_OF[name]())
    if name == "train":
        expected |= presets.load_preset("starter", PRESETS)
    assert config == expected | given
