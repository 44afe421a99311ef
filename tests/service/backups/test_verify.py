"""A champion in a backup: restored beside the service, served, asked, and compared with the one in the service."""

import warnings
from contextlib import nullcontext

import pytest

from tests.service.backups.filled import add_champion, add_run, contents
from trainer.core.errors import SettingsError, TrackingError
from trainer.service.backups import verify as verify_module
from trainer.service.backups.backup import back_up
from trainer.service.backups.verify import verify
from trainer.service.stores import table_counts

MODEL = """
import mlflow
from mlflow.pyfunc import PythonModel


class Lengths(PythonModel):
    def predict(self, context, model_input: list[str]) -> list[int]:
        return [{factor} * len(text) for text in model_input]


mlflow.models.set_model(Lengths())
"""
EXAMPLE = ["so proud of you"]


def save_model(folder, factor):
    """The files of a saved model: path → content."""
    import mlflow

    folder.mkdir()
    (folder / "code.py").write_text(MODEL.replace("{factor}", str(factor)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            folder / "model", python_model=str(folder / "code.py"), input_example=EXAMPLE, pip_requirements=[]
        )
    files = [path for path in (folder / "model").rglob("*") if path.is_file()]
    return {path.relative_to(folder / "model").as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def made(stores, tmp_path):
    """A backup of stores with a champion."""
    add_champion(stores, save_model(tmp_path / "new", 2), add_run(stores))
    return back_up(stores, tmp_path / "backups", keep=3)


def test_champion_answers_as_in_the_service(stores, made, tmp_path):
    before, databases = contents(stores), stores.databases()

    said = list(verify(stores, made))

    assert "[30]" in said[-1]
    assert "emotions" in said[-1]
    assert contents(stores) == before
    assert stores.databases() == databases
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [made.folder.name]


def test_champion_that_answers_otherwise_fails(stores, made, monkeypatch):
    monkeypatch.setattr(verify_module, "_server", lambda *_: nullcontext("http://127.0.0.1:1"))
    answers = iter(["[30]", "[45]"])
    asked = []
    monkeypatch.setattr(verify_module, "_predict", lambda model, *_: (asked.append(model), next(answers))[1])

    with pytest.raises(TrackingError, match="emotions"):
        list(verify(stores, made))

    assert asked[0] == "models:/emotions@champion"
    assert asked[1].rpartition("/")[2].startswith("m-")


def test_damage_fails_before_anything_is_restored(stores, made):
    made.dump(stores.database).write_bytes(b"")

    with pytest.raises(SettingsError, match="damaged"):
        list(verify(stores, made))


def test_champion_without_its_model_fails(make_stores, tmp_path):
    stores = make_stores()
    add_champion(stores, {}, add_run(stores))
    made = back_up(stores, tmp_path, keep=3)

    with pytest.raises(TrackingError, match="emotions"):
        list(verify(stores, made))

    with stores.connect() as connection:
        assert table_counts(connection)["runs"] == 1
