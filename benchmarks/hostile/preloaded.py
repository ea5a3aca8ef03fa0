"""What every process has imported before it is forked."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers.models.auto.modeling_auto  # noqa: E402, F401
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments  # noqa: E402, F401

import benchmarks.hostile.trial  # noqa: E402, F401
import tmt_geo.compare  # noqa: E402, F401
import tmt_geo.evaluate  # noqa: E402, F401
import tmt_geo.models  # noqa: E402, F401
import tmt_geo.train  # noqa: E402, F401
import tmt_geo.viz  # noqa: E402, F401
