"""The settings of each entry point of MLproject."""

from registry.config import HistoryConfig, PromoteConfig, RollbackConfig
from registry.scoring.config import PredictConfig
from trainer.config import TrainConfig
from tuning.config import TuneConfig

SETTINGS_OF = {
    "train": TrainConfig,
    "tune": TuneConfig,
    "promote": PromoteConfig,
    "rollback": RollbackConfig,
    "history": HistoryConfig,
    "predict": PredictConfig,
}
