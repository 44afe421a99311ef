"""The settings of each entry point of MLproject."""

from registry.config import HistoryConfig, PromoteConfig, RollbackConfig
from registry.predict_config import PredictConfig
from trainer.config import TrainConfig

SETTINGS_OF = {
    "train": TrainConfig,
    "promote": PromoteConfig,
    "rollback": RollbackConfig,
    "history": HistoryConfig,
    "predict": PredictConfig,
}
