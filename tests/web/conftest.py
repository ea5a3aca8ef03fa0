import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tmt_geo import TMTConfig, TMTModel
from tmt_geo.data import load_text, train_tokenizer

LONGEST = 128


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with an untrained TMT and an untrained Llama, where `demo` would leave them."""
    folder = tmp_path_factory.mktemp("web") / "runs"
    tokenizer = train_tokenizer(load_text("embedded").train[:40], vocab_size=500)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": LONGEST}
    torch.manual_seed(0)
    tmt = TMTConfig(
        vocab_size=len(tokenizer), d_model=16, n_layers=2, n_heads=2, max_seq_len=LONGEST, graph_k=3, window=2,
        memory_anchors=2, exit_budget=0.6, dropout=0.0,
    )  # fmt: skip
    llama = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, **sizes)
    for name, model in (("tmt", TMTModel(tmt)), ("llama", LlamaForCausalLM(llama))):
        model.save_pretrained(folder / "demo" / name)
        tokenizer.save_pretrained(folder / "demo" / name)
    return folder
