"""A study that version 0.1 kept in a journal is copied once and continued."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from tests.tuning.tuning_helpers import states
from tuning.finals.finals import results
from tuning.study.journal import JOURNAL, import_study
from tuning.study.storage import close_storage, open_storage

KEPT = Path(__file__).parents[2] / "kept" / "study-0.1" / JOURNAL
RUN_ID = "1679a2b277314fea956477708c30ec16"


@pytest.fixture
def storage(tmp_path):
    shutil.copy(KEPT, tmp_path)
    opened = open_storage(tmp_path)
    yield opened
    close_storage(opened)


def test_a_study_is_copied_with_its_finals_and_once(storage, tmp_path, searches):
    assert import_study(tmp_path, storage, "kept")
    assert not import_study(tmp_path, storage, "kept")
    assert not import_study(tmp_path, storage, "other")

    shutil.copy(tmp_path / "optuna.db", searches.output)
    study, finals = searches.load("kept"), searches.load("kept.finals")
    assert states(study) == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert study.best_trial.number == 3
    assert study.user_attrs["run_id"] == RUN_ID
    assert [(one.trial, one.seed, round(one.score, 3)) for one in results(finals, [43, 44])] == [
        (3, 43, 0.244),
        (3, 44, 0.261),
    ]


def test_an_import_that_was_killed_is_repeated(storage, tmp_path):
    import optuna

    optuna.create_study(storage=storage, study_name="kept", direction="maximize").add_trials([])
    assert import_study(tmp_path, storage, "kept")
    assert len(optuna.load_study(study_name="kept", storage=storage).trials) == 4


def test_the_same_command_continues_it(searches):
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment("emotions")).info.run_id
    (searches.output / JOURNAL).write_text(KEPT.read_text().replace(RUN_ID, run_id))
    given = {"study": "kept", "space": "auto", "max_train_rows": 200, "epochs": 2}
    code, output = searches.run(**given, trials=5, pruner="none")

    assert code == 0, output
    assert len(states(searches.load("kept"))) == 5
    code, output = searches.run(**given, trials=5, pruner="none", dropout=0.3)
    assert code == 1
    assert "dropout: 0.1 then, 0.3 now" in output


def test_a_new_study_does_not_take_the_name_of_one_in_the_journal(searches):
    (searches.output / JOURNAL).write_text(KEPT.read_text().replace('"kept"', '"starter-1"'))
    code, output = searches.run(study="", trials=1)
    assert code == 0, output
    assert searches.load("starter-2").user_attrs["about"]
    with pytest.raises(KeyError):
        searches.load("starter-1")
