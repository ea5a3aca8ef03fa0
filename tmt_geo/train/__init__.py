"""Training: the options of a run, its folder, and a thin layer over the Hugging Face Trainer.

The names below are imported when first used, so that the options alone need neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmt_geo.train.config import TrainConfig as TrainConfig
    from tmt_geo.train.loop import TrainResult as TrainResult
    from tmt_geo.train.loop import train_model as train_model
    from tmt_geo.train.trace_callback import TraceCallback as TraceCallback
    from tmt_geo.train.trainer import LanguageModelTrainer as LanguageModelTrainer
    from tmt_geo.train.trainer import collate_blocks as collate_blocks

__all__ = ["LanguageModelTrainer", "TraceCallback", "TrainConfig", "TrainResult", "collate_blocks", "train_model"]

_HOME = {
    "LanguageModelTrainer": "trainer",
    "TraceCallback": "trace_callback",
    "TrainConfig": "config",
    "TrainResult": "loop",
    "collate_blocks": "trainer",
    "train_model": "loop",
}

if not TYPE_CHECKING:  # a checker that sees this takes any name for given

    def __getattr__(name: str):
        if name not in _HOME:
            raise AttributeError(f"module 'tmt_geo.train' has no attribute {name!r}")
        return getattr(import_module(f"tmt_geo.train.{_HOME[name]}"), name)
