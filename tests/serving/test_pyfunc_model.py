"""What the loaded model answers: the probabilities of the evaluation, whatever a text's form, place and company."""

import copy
import io
import pickle
import pickletools
import threading

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from serving_helpers import NAMES, PER_LABEL, TEXTS, WORDS, load

from trainer.model.optimizations import quantization

TOLERANCE = 1e-5
WORDY = st.lists(st.sampled_from([*WORDS[2:], "zebra"]), max_size=20).map(" ".join)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def in_bf16(folder):
    return load(folder, precision="bf16")


@pytest.fixture(scope="module")
def in_int8(folder):
    return load(folder, precision="int8")


def assert_refused(model, *args, match, **kwargs):
    with pytest.raises(MlflowException, match=match) as raised:
        model.predict(*args, **kwargs)
    assert raised.value.get_http_status_code() == 400


def scores(model, texts):
    return model.predict(texts)[list(NAMES)].to_numpy()


class TestPredictions:
    def test_probabilities_are_the_evaluations(self, model, expected):
        table = model.predict(TEXTS)
        assert list(table.columns) == [*NAMES, "labels"]
        assert expected.std(axis=0).min() > 0.01
        np.testing.assert_allclose(table[list(NAMES)].to_numpy(), expected, atol=1e-6)

    def test_order_and_number_of_texts_do_not_matter(self, model, expected):
        order = np.arange(1000) % len(TEXTS)  # of 8 tokens at most: more than one batch
        np.testing.assert_allclose(scores(model, [TEXTS[i] for i in order]), expected[order], atol=1e-6)

    @settings(max_examples=25)
    @given(st.lists(WORDY | UNICODE, min_size=1, max_size=12), st.randoms())
    def test_order_company_and_padding_do_not_matter(self, model, texts, random):
        together, order = scores(model, texts), list(range(len(texts)))
        random.shuffle(order)
        assert np.isfinite(together).all()
        np.testing.assert_allclose(scores(model, [texts[i] for i in order]), together[order], atol=TOLERANCE)
        np.testing.assert_allclose(scores(model, [*texts, "of " * 50])[:-1], together, atol=TOLERANCE)
        np.testing.assert_allclose(np.concatenate([scores(model, [text]) for text in texts]), together, atol=TOLERANCE)

    @settings(max_examples=25)
    @given(st.lists(st.integers(-5, 5) | st.text(max_size=3), min_size=1, max_size=6))
    def test_any_index_is_kept(self, model, index):
        texts = [TEXTS[i % len(TEXTS)] for i in range(len(index))]
        for form in (pd.Series(texts, index=index), pd.DataFrame({"text": texts}, index=index)):
            table = model.predict(form)
            pd.testing.assert_index_equal(table.index, form.index)
            np.testing.assert_allclose(table[list(NAMES)].to_numpy(), scores(model, texts), atol=TOLERANCE)

    def test_texts_beyond_a_slice_are_answered_alike(self, model, expected, monkeypatch):
        served = model.unwrap_python_model()
        monkeypatch.setitem(served.scorer.probabilities.__globals__, "_TEXTS_PER_SLICE", 2)
        np.testing.assert_allclose(scores(model, TEXTS), expected, atol=1e-6)

    def test_threads_get_their_own_answers(self, model, expected):
        answers = {}
        texts = {number: [TEXTS[number % 5]] * (1 + number % 3) for number in range(40)}

        def ask(number):
            answers[number] = scores(model, texts[number])

        threads = [threading.Thread(target=ask, args=[number]) for number in texts]
        for step in (threading.Thread.start, threading.Thread.join):
            for thread in threads:
                step(thread)
        for number, batch in texts.items():
            np.testing.assert_allclose(answers[number], [expected[number % 5]] * len(batch), atol=TOLERANCE)

    def test_one_request_that_fails_fails_alone(self, model, expected, monkeypatch):
        served = model.unwrap_python_model()
        score = served.scorer.probabilities
        monkeypatch.setattr(served.scorer, "probabilities", lambda texts: score(texts) if "her" not in texts else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.predict(["her"])
        np.testing.assert_allclose(scores(model, TEXTS[:1]), expected[:1], atol=TOLERANCE)

    def test_labels_are_those_at_or_above_their_threshold_best_first(self, model, expected):
        for row, labels in zip(expected, model.predict(TEXTS)["labels"], strict=True):
            assert labels == [NAMES[i] for i in np.argsort(-row) if row[i] >= PER_LABEL[i]]

    def test_a_threshold_is_reached_by_equality(self, model):
        probability = float(model.predict(TEXTS[:1])["joy"].iloc[0])
        assert "joy" in model.predict(TEXTS[:1], params={"threshold": probability})["labels"].iloc[0]
        above = np.nextafter(probability, 1)
        assert "joy" not in model.predict(TEXTS[:1], params={"threshold": above})["labels"].iloc[0]

    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(lambda: pd.DataFrame({"text": TEXTS}), id="frame"),
            pytest.param(lambda: pd.DataFrame({"id": range(5), "text": TEXTS, "more": None}), id="frame with others"),
            pytest.param(lambda: pd.DataFrame({"0": TEXTS}), id="frame of Spark"),
            pytest.param(lambda: pd.DataFrame({"comment": TEXTS}), id="frame of one column"),
            pytest.param(lambda: [{"text": text, "id": 3} for text in TEXTS], id="records"),
            pytest.param(lambda: np.array([{"text": text} for text in TEXTS]), id="array of records"),
            pytest.param(lambda: pd.Series(TEXTS), id="series"),
            pytest.param(lambda: pd.Series(TEXTS, name="comment"), id="named series"),
            pytest.param(lambda: np.array(TEXTS), id="array"),
            pytest.param(lambda: tuple(TEXTS), id="tuple"),
            pytest.param(lambda: {"text": TEXTS}, id="dict of columns"),
        ],
    )
    def test_every_form_of_input_gives_the_same(self, model, form):
        pd.testing.assert_frame_equal(model.predict(form()), model.predict(TEXTS))

    @pytest.mark.parametrize("form", [TEXTS[0], np.array(TEXTS[0]), {"text": TEXTS[0]}])
    def test_one_text_is_one_row(self, model, form):
        pd.testing.assert_frame_equal(model.predict(form), model.predict(TEXTS[:1]))

    def test_rows_keep_their_index(self, model):
        table = model.predict(pd.DataFrame({"text": TEXTS}, index=list("edcba")))
        assert list(table.index) == list("edcba")
        np.testing.assert_array_equal(table["joy"].to_numpy(), model.predict(TEXTS)["joy"].to_numpy())

    def test_nothing_gives_an_empty_table(self, model):
        for nothing in ([], pd.DataFrame(), pd.DataFrame({"text": []})):
            assert model.predict(nothing).shape == (0, 4)

    @pytest.mark.parametrize(
        ("csv", "texts"), [("text\n2016\n3\n", ["2016", "3"]), ("text\nTrue\nFalse\n", ["True", "False"])]
    )
    def test_numbers_and_booleans_of_csv_are_texts(self, model, csv, texts):
        pd.testing.assert_frame_equal(model.predict(pd.read_csv(io.StringIO(csv))), model.predict(texts))


class TestCopies:
    @pytest.mark.parametrize(
        "make", [copy.deepcopy, copy.copy, lambda model: cloudpickle.loads(cloudpickle.dumps(model))]
    )
    def test_a_copy_answers_alike_in_the_same_precision(self, in_bf16, make):
        again = make(in_bf16.unwrap_python_model())
        assert again is not in_bf16.unwrap_python_model()
        assert again.scorer.precision == "bf16"
        table = again.predict(None, TEXTS)
        np.testing.assert_array_equal(table[list(NAMES)].to_numpy(), scores(in_bf16, TEXTS))

    def test_the_pickle_needs_mlflow_only(self, model, folder):
        content = pickle.dumps(model)
        assert str(folder).encode() in content
        assert len(content) < 20_000
        modules = {word for op, word, _ in pickletools.genops(content) if op.name in ("SHORT_BINUNICODE", "BINUNICODE")}
        assert not [word for word in modules if word.startswith(("code_model", "emotions_", "trainer"))]


class TestParameters:
    def test_policy(self, model, expected):
        chosen = model.predict(TEXTS, params={"policy": "fixed"})["labels"]
        assert [set(labels) for labels in chosen] == [
            {NAMES[i] for i in np.flatnonzero(row >= 0.5)} for row in expected
        ]
        assert chosen.tolist() != model.predict(TEXTS)["labels"].tolist()

    def test_threshold_takes_the_place_of_the_policy(self, model):
        assert all(len(labels) == 3 for labels in model.predict(TEXTS, params={"threshold": 0})["labels"])
        assert model.predict(TEXTS, params={"threshold": 1})["labels"].tolist() == [[]] * len(TEXTS)

    def test_top_k_keeps_the_most_probable(self, model, expected):
        labels = model.predict(TEXTS, params={"threshold": 0.0, "top_k": 2})["labels"]
        assert labels.tolist() == [[NAMES[i] for i in np.argsort(-row)[:2]] for row in expected]

    def test_labels_alone_when_probabilities_are_not_wanted(self, model):
        table = model.predict(pd.Series(TEXTS, index=list("edcba")), params={"return_probabilities": False})
        pd.testing.assert_frame_equal(table, model.predict(pd.Series(TEXTS, index=list("edcba")))[["labels"]])
        assert model.predict([], params={"return_probabilities": False}).shape == (0, 1)

    @pytest.mark.parametrize(
        ("params", "rule"),
        [
            ({"policy": "best"}, "`policy` must be one of fixed, per_label, got best"),
            ({"threshold": 1.5}, r"`threshold` must be in \[0, 1\], got 1.5"),
            ({"threshold": float("nan")}, r"`threshold` must be in \[0, 1\]"),
            ({"top_k": -1}, "`top_k` must be at least 0"),
            ({"top_k": "two"}, "Can not safely convert"),
        ],
    )
    def test_one_out_of_range_is_refused(self, model, params, rule):
        assert_refused(model, TEXTS, params=params, match=rule)


class TestBadInput:
    def test_missing_column(self, model):
        frame = pd.DataFrame({"comment": TEXTS, "id": range(5)})
        assert_refused(model, frame, match=r"column `text`, got \['comment', 'id'\]")
        assert_refused(model, [{"id": 3, "comment": "so"}], match=r"column `text`, got \['id', 'comment'\]")

    @pytest.mark.parametrize("cells", [{"number": [3, 4]}, {"text": [1.5, 2.0]}, {"text": ["so", 3]}, {"text": [None]}])
    def test_numbers_that_may_be_no_texts(self, model, cells):
        assert_refused(model, pd.DataFrame(cells), match="text must be a string .* CSV")

    @pytest.mark.parametrize("value", [None, 3, float("nan"), ["so"], b"so", "half \ud83d"])
    def test_not_a_text(self, model, value):
        assert_refused(model, ["so", value], match=r"text must be a string .* got 1 .*row 1")
        frame = pd.DataFrame({"text": pd.Series(["so", value], dtype=object)})
        assert_refused(model, frame, match=r"text must be a string .* got 1 .*row 1")

    def test_every_bad_row_counts_and_ten_are_shown(self, model):
        assert_refused(model, [None] * 12, match=r"got 12 of another kind \(row 0: None, .*row 9: None\)")

    @pytest.mark.parametrize(
        "form", [5, None, np.array(5), {"text": 5}, pd.DataFrame([["so", "her"]], columns=["text"] * 2)]
    )
    def test_another_kind(self, model, form):
        assert_refused(model, form, match="must be a DataFrame with one column `text`")

    def test_texts_in_texts(self, model):
        assert_refused(model, np.array([["so"], ["her"]]), match="got 2 of another kind")

    def test_a_long_value_is_shown_in_part(self, model):
        with pytest.raises(MlflowException) as raised:
            model.predict([["so"] * 10_000])
        assert len(str(raised.value)) < 300


class TestPrecision:
    def test_float32_is_the_default_precision(self, model, folder, expected):
        assert model.model_config == {"precision": "fp32"}
        np.testing.assert_array_equal(scores(load(folder, precision="fp32"), TEXTS), scores(model, TEXTS))

    def test_fewer_bits_give_nearly_the_same(self, in_bf16, in_int8, expected):
        for other in (in_bf16, in_int8):
            difference = np.abs(scores(other, TEXTS) - expected)
            assert 1e-6 < difference.max() < 0.05

    def test_int8_replaces_every_linear_layer_of_the_encoder_and_not_the_head(self, model, in_int8):
        plain, other = (one.unwrap_python_model().scorer.members[0].model for one in (model, in_int8))
        linear = {name for name, module in plain.encoder.named_modules() if type(module).__name__ == "Linear"}
        int8 = {name for name, module in other.encoder.named_modules() if type(module).__name__ == "_Int8Linear"}
        assert len(linear) >= 6
        assert int8 == linear
        assert type(other.head) is type(plain.head)

    def test_a_layer_of_zeros_and_one_without_bias_stay_what_they_are(self):
        import torch

        layers = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False), torch.nn.Linear(4, 4))
        torch.nn.init.zeros_(layers[0].weight)
        bias = layers[1].bias.detach().clone()
        assert quantization.use_int8(layers) == 2
        with torch.inference_mode():
            torch.testing.assert_close(layers(torch.randn(2, 3, 8)), bias.expand(2, 3, 4))

    def test_a_server_chooses_it_with_the_variable_of_mlflow(self, folder, monkeypatch, in_int8):
        from mlflow.pyfunc.scoring_server import load_model_with_mlflow_config

        monkeypatch.setenv("SERVING_MODEL_CONFIG", '{"precision": "int8"}')
        served = load_model_with_mlflow_config(str(folder))
        np.testing.assert_array_equal(scores(served, TEXTS), scores(in_int8, TEXTS))

    @pytest.mark.parametrize("other", ["fp8", "", None, 8])
    def test_another_is_refused_with_the_choices(self, folder, other):
        with pytest.raises(MlflowException, match="`precision` must be one of fp32, bf16, int8, got"):
            load(folder, precision=other)
