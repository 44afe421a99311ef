"""Labels of models and data sets brought together: shipped mappings, files, groups and what neither side has."""

import json

import numpy as np
import pytest

from trainer.core.errors import SettingsError
from trainer.data.sources.files import read_label_names
from trainer.evaluation.label_mapping import (
    LabelMapping,
    align,
    group_labels,
    group_predictions,
    group_probabilities,
    group_thresholds,
    read_mapping,
)

MOODS = ("love", "joy", "rage", "fear")
MAPPING = LabelMapping(name="moods", groups={"good": ("love", "joy"), "joy": ("joy",), "calm": ("fear",)})


@pytest.fixture(scope="module")
def shipped(root):
    folder = root / "trainer" / "mappings"
    goemotions = read_label_names(root / "trainer" / "data" / "starter")
    return {path.stem: (read_mapping(path.stem, folder), goemotions) for path in folder.glob("*.yaml")}


def test_the_shipped_mappings_are_those_promised_and_name_labels_of_goemotions_only(shipped):
    assert set(shipped) == {
        *("goemotions-ekman", "goemotions-sentiment", "goemotions-semeval2018", "goemotions-isear", "goemotions-meld")
    }
    for mapping, goemotions in shipped.values():
        assert mapping.members <= set(goemotions)
    for name in ("goemotions-ekman", "goemotions-sentiment", "goemotions-meld"):
        mapping, goemotions = shipped[name]
        assert sorted(one for members in mapping.groups.values() for one in members) == sorted(goemotions)
    assert shipped["goemotions-isear"][0].notes


def test_a_shipped_mapping_equals_the_file_of_its_authors(shipped, shared_data):
    for name, file in (("goemotions-ekman", "ekman_mapping.json"), ("goemotions-sentiment", "sentiment_dict.json")):
        authors = json.loads((shared_data / "goemotions" / file).read_text())
        groups = {label: set(members) for label, members in shipped[name][0].groups.items()}
        assert groups.pop("neutral") == {"neutral"}
        assert groups == {label: set(members) for label, members in authors.items()}


def test_a_mapping_serves_a_model_of_either_vocabulary(shipped):
    mapping, goemotions = shipped["goemotions-semeval2018"]
    semeval = (
        "anger",
        "anticipation",
        "disgust",
        "fear",
        "joy",
        "love",
        "optimism",
        "pessimism",
        "sadness",
        "surprise",
    )
    one, other = align(goemotions, semeval, mapping), align(semeval, goemotions, mapping)

    assert one.label_names == other.label_names == tuple(mapping.groups)
    assert (one.model, one.data) == (other.data, other.model)
    assert one.data_only == other.model_only == ("anticipation", "pessimism")
    assert [goemotions[column] for column in one.model[0]] == ["anger", "annoyance"]
    assert "annoyance" not in one.model_only


def test_both_sides_are_grouped_where_both_have_the_members(shipped):
    mapping, goemotions = shipped["goemotions-sentiment"]
    aligned = align(goemotions, goemotions, mapping)
    assert aligned.label_names == ("positive", "negative", "ambiguous", "neutral")
    assert aligned.model == aligned.data
    assert (aligned.model_only, aligned.data_only, aligned.partial) == ((), (), ())


def test_without_a_mapping_labels_of_the_same_name_are_evaluated():
    aligned = align(MOODS, ("fear", "joy", "shame"), None)
    assert aligned.label_names == ("joy", "fear")
    assert (aligned.model, aligned.data) == (((1,), (3,)), ((1,), (0,)))
    assert (aligned.model_only, aligned.data_only) == (("love", "rage"), ("shame",))


def test_members_that_one_side_lacks_are_named():
    aligned = align(("joy", "good"), MOODS, MAPPING)
    assert aligned.partial == ()  # it has the labels of the groups
    aligned = align(("love", "fear"), MOODS, MAPPING)
    assert [("`good`" in one, "joy" in one, "model" in one) for one in aligned.partial] == [(True, True, True)]


def test_groups_are_predicted_by_any_member_and_their_probability_is_that_of_at_least_one():
    columns = ((0, 1), (2,))
    probabilities = np.array([[0.5, 0.5, 0.3], [0.0, 0.2, 1.0]])
    assert group_probabilities(probabilities, columns) == pytest.approx(np.array([[0.75, 0.3], [0.2, 1.0]]))
    decided = group_predictions(np.array([[False, True, False], [False, False, True]]), columns)
    assert decided.tolist() == [[True, False], [False, True]]
    thresholds = group_thresholds(np.array([0.1, 0.2, 0.3]), columns)
    assert np.isnan(thresholds[0])
    assert thresholds[1] == 0.3


def test_a_group_is_observed_where_a_member_is_positive_or_all_are_annotated():
    labels = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    observed = np.array([[True, False], [True, False], [True, False], [True, True]])
    values, seen = group_labels(labels, observed, ((0, 1),))
    assert seen[:, 0].tolist() == [True, False, False, True]
    assert values[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("joy: [joy, lvoe]", "lvoe"),
        ("joy: 3", "joy"),
        ("no: [joy]", "False"),
        ("joy: []", "joy"),
        ("[joy]", "label_mapping"),
        ("", "label_mapping"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_names(content, named, tmp_path):
    path = tmp_path / "moods.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=named):
        align(MOODS, MOODS, read_mapping(str(path), tmp_path))


def test_a_file_may_be_json_and_have_notes(tmp_path):
    path = tmp_path / "moods.json"
    path.write_text(json.dumps({"notes": ["n"], "labels": {"good": ["love", "joy"], "fear": "fear"}}))
    mapping = read_mapping(str(path), tmp_path)
    assert (mapping.groups, mapping.notes) == ({"good": ("love", "joy"), "fear": ("fear",)}, ("n",))


def test_no_common_label_is_refused():
    with pytest.raises(SettingsError, match="common label"):
        align(MOODS, ("a", "b"), None)
