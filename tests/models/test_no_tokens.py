"""A sequence of no tokens has no logits, and a choice among nothing chooses nothing."""

import pytest
import torch

from tmt_geo import MultiStreamTransformer, QuarticTransformer, RelationalTransformer
from tmt_geo.ops.routing import soft_topk


@pytest.mark.parametrize("model", [QuarticTransformer, MultiStreamTransformer, RelationalTransformer])
@pytest.mark.parametrize("causal", [False, True])
def test_no_tokens_have_no_logits(model, causal):
    built = model(num_tokens=10, dim=16, depth=2, heads=2, dim_head=8, causal=causal)
    assert built(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 10)


def test_of_nothing_nothing_is_chosen():
    assert soft_topk(torch.randn(3, 0), 2).shape == (3, 0)
