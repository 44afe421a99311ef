import numpy as np
import pytest
import torch

from trainer.fit.config import FitConfig
from trainer.fit.optimizer import build_optimizer, build_scheduler

STEPS = 30


def learning_rates(**settings):
    optimizer = build_optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1e-3, "weight_decay": 0.0}])
    scheduler = build_scheduler(optimizer, FitConfig(warmup_ratio=0.2, **settings), STEPS)
    rates = []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize(
    ("schedule", "last", "rises"),
    [("linear", 0.05, 0), ("cosine", 0.01, 0), ("cosine_with_restarts", 0.02, 1), ("constant", 1.0, 0)],
)
def test_each_schedule_warms_up_and_then_follows_its_course(schedule, last, rises):
    rates = learning_rates(schedule=schedule)
    assert rates[0] == 0
    assert rates.argmax() == round(0.2 * STEPS)
    assert rates[-1] / rates.max() == pytest.approx(last, abs=0.02)
    assert int((np.diff(rates[rates.argmax() :]) > 0).sum()) == rises
