"""Every figure is written, has ink on it and survives the odd cases."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import precision_recall_curve

from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.bootstrap import Resampling
from trainer.evaluation.comparison import compare_systems
from trainer.evaluation.comparison_results import PairResult, System
from trainer.evaluation.label_calibration import calibration_gaps
from trainer.reporting import figures
from trainer.reporting.figures import curves, predictions, style
from trainer.reporting.figures.style import DPI, plain, select

HISTORY = [
    {"step": 10, "train/loss": 2.5, "train/learning_rate": 1e-4},
    {"step": 20, "train/loss": 2.0, "train/learning_rate": 5e-5},
    {"step": 20, "dev/loss": 2.2, "dev/macro_f1": 0.4, "dev/micro_f1": 0.5},
]


def make_scores(names, probabilities, labels, observed=None) -> LabelledScores:
    seen = np.ones(labels.shape, bool) if observed is None else observed
    return LabelledScores(label_names=tuple(names), scores=probabilities, labels=labels, observed=seen)


def example(k: int, n: int = 120, without: int | None = None) -> LabelledScores:
    rng = np.random.default_rng(k)
    labels = (rng.random((n, k)) < 0.2).astype(np.float32)
    if without is not None:
        labels[:, without] = 0
    probabilities = 1 / (1 + np.exp(-(3 * labels - 2 + rng.normal(0, 1, (n, k)))))
    return make_scores([f"label {i}" for i in range(k)], probabilities, labels)


def make_difference(k: int) -> PairResult:
    """One label has no positive."""
    predicted = [example(k, without=0).positives, np.zeros((120, k), dtype=bool)]
    systems = [System(name=str(place), predictions={0: one}) for place, one in enumerate(predicted)]
    return compare_systems(example(k, without=0), systems, resampling=Resampling(num_resamples=100)).pairs[0]


def draw(name: str, path: Path, scores: LabelledScores) -> Path:
    k, names = len(scores.label_names), scores.label_names
    half, support = np.full(k, 0.5), scores.support
    counts = {"train": support * 8, "test": support}
    gaps = calibration_gaps(scores)
    arguments = {
        "loss_and_f1_curves": (HISTORY,),
        "precision_recall": (scores, scores.probabilities >= half),
        "reliability": (scores, scores.with_probabilities(scores.probabilities**1.3), (0.03, 0.01)),
        "label_calibration": ([{"label": name} | gap for name, gap in zip(names, gaps, strict=True)],),
        "error_cooccurrence": (scores, scores.probabilities >= half),
        "f1_differences": (names, make_difference(k), support),
        "per_label_f1": (names, half, np.tile([0.4, 0.6], (k, 1)), support),
        "thresholds_per_label": (names, {"fixed": half, "per_label": half / 2}),
        "label_frequency": (names, counts, {"train": 960, "test": 120}),
    }
    options = {"decision": "refused"} if name == "f1_differences" else {}
    return getattr(figures, name)(path, *arguments[name], **options)


FIGURES = [name for name in figures.__all__ if inspect.isfunction(getattr(figures, name))]


def pixels(path: Path) -> np.ndarray:
    return imread(path)[..., :3]


def test_every_public_figure_is_drawn_here():
    assert len(FIGURES) == 9


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_written_with_ink_and_a_white_margin(name, tmp_path):
    path = draw(name, tmp_path / "new" / f"{name}.png", example(4, without=1))
    image = pixels(path)
    height, width = image.shape[:2]
    assert min(height, width) >= 1.5 * DPI
    assert max(height, width) <= 14 * DPI
    assert image.std() > 0.02
    for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert np.all(edge == 1), "something is cut off at the edge"


def test_many_labels_make_the_figure_larger_not_denser(tmp_path):
    few = pixels(draw("per_label_f1", tmp_path / "few.png", example(6)))
    many = pixels(draw("per_label_f1", tmp_path / "many.png", example(24)))
    assert many.size > 2 * few.size


@pytest.mark.parametrize("name", ["error_cooccurrence", "per_label_f1"])
def test_a_thousand_labels_stay_a_figure_of_bounded_size(name, tmp_path):
    """The figure of every label would take 20 GB and be taller than a PNG can be."""
    path = draw(name, tmp_path / "many.png", example(1000, n=50))
    assert max(pixels(path).shape[:2]) < 30 * DPI


def test_labels_with_the_largest_weights_are_drawn_and_the_title_says_so():
    shown, title = select(np.array([3.0, 9.0, 1.0, 5.0]), 2, "F1", "positives")
    assert shown == [1, 3]
    assert "2 of 4 labels" in title
    assert select(np.ones(2), 2, "F1", "positives") == ([0, 1], "F1")


def test_letters_without_a_glyph_are_no_warning(tmp_path):
    scores = example(2)
    odd = make_scores(["怒り", "\U0001f9ff"], scores.probabilities, scores.labels)
    assert draw("per_label_f1", tmp_path / "f1.png", odd).exists()


def test_letters_without_a_glyph_are_escaped(monkeypatch):
    monkeypatch.setattr(style, "_fonts", lambda: ["DejaVu Sans"])
    style._has_glyph.cache_clear()
    try:
        assert [plain(name) for name in ("怒り", "喜び", "Ärger, грусть")] == [
            r"\u6012\u308a",
            r"\u559c\u3073",
            "Ärger, грусть",
        ]
    finally:
        style._has_glyph.cache_clear()


def test_same_input_gives_the_same_bytes(tmp_path):
    first = draw("thresholds_per_label", tmp_path / "a.png", example(2))
    second = draw("thresholds_per_label", tmp_path / "b.png", example(2))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "history",
    [
        HISTORY[2:],
        HISTORY[:1],
        [{"step": 1, "train/loss": float("nan")}],
        [],
    ],
    ids=["one epoch", "one step", "no finite number", "nothing"],
)
def test_short_histories_are_drawn(history, tmp_path):
    assert pixels(figures.loss_and_f1_curves(tmp_path / "curves.png", history)).std() > 0.02


def test_points_leave_out_what_is_not_finite_and_follow_the_steps():
    history = [
        {"step": 3, "dev/loss": 1.0},
        {"step": 2, "dev/loss": float("nan")},
        {"step": 1, "dev/loss": 2.0},
        {"step": 4},
    ]
    assert curves._points(history, "dev/loss") == ([1, 3], [2.0, 1.0])


def test_labels_without_positives_and_unknown_numbers_are_drawn(tmp_path):
    names, nan = ["a", "b"], float("nan")
    path = tmp_path / "f1.png"
    figures.per_label_f1(path, names, np.array([nan, 0.3]), np.full((2, 2), nan), np.array([0, 4]))
    assert pixels(path).std() > 0.02
    figures.label_frequency(path, names, {"train": np.zeros(2), "test": np.zeros(2)}, {"train": 5, "test": 5})
    assert pixels(path).std() > 0.02


def test_label_names_are_never_read_as_formulas(tmp_path):
    scores = example(2)
    odd = make_scores(["$x_{", "very\nlong " * 20], scores.probabilities, scores.labels)
    for name in ("precision_recall", "error_cooccurrence", "per_label_f1"):
        assert draw(name, tmp_path / f"{name}.png", odd).exists()
    assert plain("a\tb$") == r"a b\$"
    assert len(plain("x" * 99)) == 24


def test_precision_recall_points_are_those_of_scikit_learn():
    scores = example(2)
    truths, probabilities = scores.positives[:, 0], np.round(scores.probabilities[:, 0], 1)  # rounded: many ties
    precisions, recalls = predictions._precision_recall_curve(truths, probabilities)
    expected_precisions, expected_recalls, _ = precision_recall_curve(truths, probabilities)
    np.testing.assert_allclose(precisions[::-1], expected_precisions[:-1][-len(precisions) :])
    np.testing.assert_allclose(recalls[::-1], expected_recalls[:-1][-len(recalls) :])


def test_wilson_interval_of_a_textbook_case():
    low, high = predictions._wilson(np.array([5]), np.array([10]))
    np.testing.assert_allclose([low[0], high[0]], [0.2366, 0.7634], atol=1e-4)


def test_module_loads_without_matplotlib_and_leaves_its_state_alone(tmp_path):
    code = (
        "import sys, numpy, pathlib, trainer.reporting.figures as f; assert 'matplotlib' not in sys.modules;"
        "import matplotlib as m; m.rcParams['font.size'] = 21; before = dict(m.rcParams);"
        "f.thresholds_per_label(pathlib.Path(sys.argv[1]), ['a'], {'fixed': numpy.array([0.5])});"
        "assert dict(m.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.png")], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "x.png").exists()
