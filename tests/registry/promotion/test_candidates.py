"""Reading a run that may become champion."""

import pytest
from registry_helpers import make_truth

from registry.promotion.candidates import check_same_test, read_candidate
from trainer.core.errors import RegistryError


def read(commands, run_id):
    return read_candidate(commands.client, run_id, commands.folder / "fetched")


@pytest.mark.parametrize("status", ["FAILED", "RUNNING"])
def test_a_run_must_have_finished(empty, status):
    run_id = empty.run(0.9, status=status)
    with pytest.raises(RegistryError, match=f"FINISHED, got {status}"):
        read(empty, run_id)


def test_a_run_must_exist(empty):
    with pytest.raises(RegistryError, match="f" * 32):
        read(empty, "f" * 32)


@pytest.mark.parametrize("name", ["dataset.json", "predictions/test.parquet"])
def test_a_run_must_have_its_artifacts(empty, name):
    run_id = empty.run(0.9, without=[name])
    with pytest.raises(RegistryError, match=name):
        read(empty, run_id)


def test_a_run_must_have_a_model(empty):
    run_id = empty.run(0.9, model=False)
    with pytest.raises(RegistryError, match="no model"):
        read(empty, run_id)


def test_labels_and_test_examples_must_be_those_of_the_champion(empty):
    champion, other_names, other_test = (
        read(empty, run_id)
        for run_id in (
            empty.run(0.9),
            empty.run(0.9, names=("anger", "grief", "pride")),
            empty.run(0.9, truth=make_truth(seed=9)),
        )
    )
    check_same_test(champion, champion)
    with pytest.raises(RegistryError, match="joy, pride"):
        check_same_test(other_names, champion)
    with pytest.raises(RegistryError, match="test examples"):
        check_same_test(other_test, champion)
