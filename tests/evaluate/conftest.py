"""Language models whose likelihood is known in closed form."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class TableConfig(PreTrainedConfig):
    model_type = "test-table"
    vocab_size: int = 7
    hidden_size: int = 4
    num_hidden_layers: int = 3


class BigramModel(PreTrainedModel):
    """Logits are a row of a fixed table, so the likelihood of a text is a product of table entries."""

    config_class = TableConfig

    def __init__(self, config, table):
        super().__init__(config)
        self.lm_head = nn.Linear(config.vocab_size, config.vocab_size, bias=False)
        with torch.no_grad():
            self.lm_head.weight.copy_(table.t())

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids):
        one_hot = nn.functional.one_hot(input_ids, self.config.vocab_size).to(self.lm_head.weight)
        return CausalLMOutput(logits=self.lm_head(one_hot))


class PlaceModel(BigramModel):
    """Surer of token 0 the more input it has seen: its score of a target shows how much context that had."""

    def forward(self, input_ids):
        logits = super().forward(input_ids).logits * 0
        logits[..., 0] = torch.arange(1, input_ids.size(1) + 1)  # [S]
        return CausalLMOutput(logits=logits)


@pytest.fixture
def bigram():
    def make(vocab_size=7, seed=0, dtype=torch.float32, cls=BigramModel, **config):
        table = torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed))
        return cls(TableConfig(vocab_size=vocab_size, **config), table).to(dtype)

    return make


@pytest.fixture
def place_model(bigram):
    return bigram(cls=PlaceModel, bos_token_id=0)


@pytest.fixture
def llama():
    def make(**config):
        torch.manual_seed(0)
        sizes = {"vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
        sizes |= {"intermediate_size": 20, "max_position_embeddings": 64, "tie_word_embeddings": True}
        return LlamaForCausalLM(LlamaConfig(**sizes | {"bos_token_id": None, "eos_token_id": None} | config)).eval()

    return make
