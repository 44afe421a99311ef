"""The figures of a training run and of a promotion, each from plain arrays to one PNG.

Shapes: n examples, k labels, any k from 1; of many labels a figure draws the ones that its title names. Colours are
those of Okabe and Ito, which all common kinds of colour vision tell apart (https://jfly.uni-koeln.de/color/), and
markers and positions repeat what colours show. Matplotlib is loaded by the first figure, not by this package, and its
global state stays as it was.
"""

from trainer.reporting.figures.curves import loss_and_f1_curves
from trainer.reporting.figures.label_calibration import label_calibration
from trainer.reporting.figures.per_label import f1_differences, label_frequency, per_label_f1, thresholds_per_label
from trainer.reporting.figures.predictions import error_cooccurrence, precision_recall, reliability

__all__ = [
    "error_cooccurrence",
    "f1_differences",
    "label_calibration",
    "label_frequency",
    "loss_and_f1_curves",
    "per_label_f1",
    "precision_recall",
    "reliability",
    "thresholds_per_label",
]
