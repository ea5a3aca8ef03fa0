"""Training: the options of a run, its folder, and a thin layer over the Hugging Face Trainer."""

from tmt_geo.train.config import TrainConfig
from tmt_geo.train.loop import TrainResult, train_model
from tmt_geo.train.trace_callback import TraceCallback
from tmt_geo.train.trainer import LanguageModelTrainer, collate_blocks

__all__ = ["LanguageModelTrainer", "TraceCallback", "TrainConfig", "TrainResult", "collate_blocks", "train_model"]
