"""What the properties are drawn from: sizes, options of a model, padding, and numbers as bad as users have them."""

import torch
from hypothesis import strategies as st

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import lively, tiny_config

KINDS = 7  # of tokens: so few that equal states and ties abound
SIZES = {"vocab_size": KINDS, "d_model": 8, "max_seq_len": 32}
SEEDS = st.integers(0, 2**31 - 1)
NUMBERS = ("plain", "repeated", "huge", "subnormal", "mixed", "moved", "zero")
PARTS = {
    "n_layers": st.integers(1, 3),
    "n_heads": st.sampled_from([2, 1, 4]),
    "num_key_value_heads": st.sampled_from([None, 1]),
    "mesh": st.sampled_from([True, True, True, False]),
    "graph_k": st.sampled_from([2, 1, 5, 40]),
    "window": st.sampled_from([0, 1, 4]),
    "index_dim": st.sampled_from([None, 4]),
    "rebuild_every": st.sampled_from([1, 2]),
    "search": st.sampled_from(["auto", "ivf", "windows"]),
    "shift": st.booleans(),
    "decay": st.sampled_from([None, "log", "published"]),
    "rotary": st.booleans(),
    "content_mesh": st.booleans(),
    "gated_heads": st.booleans(),
    "qk_norm": st.booleans(),
    "exit_rule": st.sampled_from([None, "budget", "fixed", "learned"]),
    "exit_after": st.sampled_from([1, 2]),
    "dual_stream": st.booleans(),
    "memory_anchors": st.sampled_from([0, 3]),
    "copy_k": st.sampled_from([0, 1, 4]),
    "copy_sentinel": st.booleans(),
}


def options(**fixed):
    """Options of a language model with any of its parts, but for those that are given."""
    return st.fixed_dictionaries({**PARTS, **{name: st.just(value) for name, value in fixed.items()}}).map(possible)


def possible(drawn):
    """The options, made to agree: a gate stands behind a layer that there is, and leaves what the budget asks for."""
    after = min(drawn["exit_after"], drawn["n_layers"])
    drawn |= {"exit_after": after, "exit_budget": max(0.6, after / drawn["n_layers"])}
    drawn |= {"exit": drawn["exit_rule"] is not None}
    return drawn | ({"exit_threshold": 0.4} if drawn["exit_rule"] == "fixed" else {})


def language_model(options, seed, dtype=torch.float64):
    """A small model of this type with these options, whose gates and anchors have seen something."""
    torch.manual_seed(seed)
    return lively(TMTModel(tiny_config(**SIZES | options)), steps=1).to(dtype)


def padding(length):
    """Where a batch of two sequences of this length has its tokens: (left, right) of the second is padding."""
    return st.sampled_from([(0, 0), (1, 0), (length // 2, 0), (0, 1), (0, length // 2), (2, 2)])


def attention_mask(length, padding):
    """The mask (2, S) of such a batch."""
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, : padding[0]] = mask[1, length - padding[1] :] = 0
    return mask


def features(n, channels, numbers="plain", dtype=torch.float64):
    """Rows (n, channels) of one kind of numbers."""
    x = torch.randn(n, channels, dtype=torch.float64)
    limits = torch.finfo(dtype)
    if numbers == "repeated":
        x = x[torch.randint(max(n // 3, 1), (n,))]
    elif numbers == "huge":
        x = x.clamp(-4, 4) * (limits.max / 8)
    elif numbers == "subnormal":
        x = x * limits.tiny / 16
    elif numbers == "mixed":
        x = x * min(limits.max / 8, 1e70) ** (2 * torch.rand(n, 1, dtype=torch.float64) - 1)  # their squares are there
    elif numbers == "moved":
        x = x + 1 / limits.eps**0.5
    elif numbers == "zero":
        x = x * (torch.rand(n, 1) < 0.5)
    return x.to(dtype)
