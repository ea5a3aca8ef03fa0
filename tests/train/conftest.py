"""Small models, a tokenizer and blocks to train on."""

from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from transformers.utils import ModelOutput

from tmt_geo.train import TrainConfig

VOCAB, BLOCK = 50, 12


@pytest.fixture(scope="session")
def llama():
    def make(**config):
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"intermediate_size": 24, "max_position_embeddings": BLOCK, "tie_word_embeddings": True}
        return LlamaForCausalLM(LlamaConfig(**sizes | config))

    return make


class GatedConfig(PreTrainedConfig):
    model_type = "test-gated"
    vocab_size: int = VOCAB
    hidden_size: int = 8
    num_hidden_layers: int = 3


@dataclass
class GatedOutput(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    gate_loss: torch.Tensor | None = None
    active_share: torch.Tensor | None = None
    num_edges: torch.Tensor | None = None


class GatedModel(PreTrainedModel):
    """Reports figures that follow from its input alone: tokens 0 and 1 leave behind the first layer."""

    config_class = GatedConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(self, input_ids, labels=None, num_items_in_batch=None, **kwargs):
        logits = self.head(self.embed(input_ids))
        loss = self.loss_function(logits, labels, self.config.vocab_size, num_items_in_batch=num_items_in_batch)
        active = (input_ids > 1).float().mean()
        return GatedOutput(
            loss=loss,
            logits=logits,
            gate_loss=input_ids.float().sum() / (num_items_in_batch or input_ids.numel()),
            active_share=torch.stack([torch.ones(()), active, active]),
            num_edges=torch.full((3,), 2 * input_ids.numel()),
        )


@pytest.fixture
def gated():
    torch.manual_seed(0)
    return GatedModel(GatedConfig())


@pytest.fixture(scope="session")
def tokenizer():
    vocabulary = {"<|endoftext|>": 0} | {f"w{i}": i for i in range(1, VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, bos_token=end, pad_token=end)


@pytest.fixture(scope="session")
def blocks():
    """Counting up from anywhere: easy to learn."""

    def make(count, length=BLOCK):
        starts = torch.randint(VOCAB, (count, 1), generator=torch.Generator().manual_seed(1))
        return [{"input_ids": row} for row in ((starts + torch.arange(length)) % VOCAB).tolist()]

    return make


class Steps(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(state.global_step)


@pytest.fixture(scope="session")
def watch_steps():
    """Makes a callback that notes in ``seen`` which steps were taken."""
    return Steps


@pytest.fixture(scope="session")
def short_run():
    """Options of a short run, ``out`` to be given."""

    def make(**change):
        short = {"steps": 6, "batch_size": 4, "block_size": BLOCK, "log_every": 2, "progress": False}
        short |= {"save_every": 0, "report_to": "none"}
        return TrainConfig(**short | change)

    return make


@pytest.fixture
def options(tmp_path, short_run):
    """Options of a short run in ``tmp_path / "run"``."""
    return lambda **change: short_run(**{"out": tmp_path / "run"} | change)
