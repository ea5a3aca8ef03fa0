"""A copy head's predictions are probabilities: they sum to one, whatever is copied, found, or absurd."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.drawn import KINDS, SEEDS, attention_mask, language_model, options, padding
from tmt_geo.models.tmt.memory_tmt import memory_after, memory_inputs
from tmt_geo.ops.copying import Sources, Votes, copy_votes
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.naive.copying import copy_mixture
from tmt_geo.testing import assert_grads_close

S = 12
TYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
COPYING = {"copy_memory": 30}


@torch.no_grad()
@given(options=options(**COPYING), seed=SEEDS, k=st.sampled_from([1, 3, 40]), padding=padding(S),
       gate=st.sampled_from([None, -60.0, 0.0, 60.0]), remembered=st.booleans())  # fmt: skip
def test_predictions_of_a_model_sum_to_one(options, seed, k, padding, gate, remembered):
    model = language_model(options | {"copy_k": k}, seed)
    if gate is not None:
        model.copy_head.lin_gate.bias.fill_(gate)
    ids, given = torch.randint(KINDS, (2, S)), {"attention_mask": attention_mask(S, padding)}
    if remembered:
        before = model(torch.randint(KINDS, (2, S)), use_cache=False)
        given = memory_inputs(model.config, memory_after(model.config, before))
    logits = model(ids, **given).logits
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, S, dtype=torch.float64), rtol=0, atol=1e-12)


@given(n=st.integers(1, 9), votes=st.integers(1, 5), vocab=st.integers(1, 9), dtype=TYPES, seed=SEEDS,
       logits=st.sampled_from([0.0, 1.0, 1e4]), gates=st.sampled_from([0.0, 1.0, 1e4]))  # fmt: skip
def test_the_shares_of_all_targets_sum_to_one_in_any_type(n, votes, vocab, dtype, seed, logits, gates):
    """What the loss gives each target alone, and what the mixture gives all of them."""
    torch.manual_seed(seed)
    weight = torch.rand(n, votes, dtype=torch.float64).softmax(1) * (torch.rand(n, 1) < 0.8)  # some have no votes
    gate, scores = gates * torch.randn(n, dtype=torch.float64), logits * torch.randn(n, vocab, dtype=torch.float64)
    mixture = Votes(torch.randint(vocab, (n, votes)), weight.to(dtype), gate.to(dtype))
    mixed = mixture.mix(scores.to(dtype))
    slack = 8 * torch.finfo(dtype).eps * votes + 1e-5 * (dtype != torch.float64)  # that of the weights, and of float32
    torch.testing.assert_close(mixed.double().exp().sum(1), torch.ones(n, dtype=torch.float64), rtol=0, atol=slack)
    head = scores.to(dtype).to(mixed.dtype).log_softmax(1)
    for token in range(vocab):
        keep, copied = mixture.log_shares(torch.full((n,), token))
        torch.testing.assert_close(
            torch.logaddexp(keep + head[:, token], copied).exp(), mixed[:, token].exp(), rtol=0, atol=slack
        )


@given(n=st.integers(2, 10), k=st.integers(1, 12), sentinel=st.booleans(), repeated=st.booleans(), seed=SEEDS)
def test_the_mixture_is_its_definition(n, k, sentinel, repeated, seed):
    torch.manual_seed(seed)
    index = torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64), dim=1)
    index = index[torch.randint(n, (n,))] if repeated else index
    inputs = {"logits": torch.randn(n, KINDS), "index": index, "scale": torch.tensor(5.0), "gate": torch.randn(n)}
    inputs = {name: tensor.double().requires_grad_() for name, tensor in inputs.items()}
    token, layout = torch.randint(KINDS, (n,)), DenseLayout.uniform(1, n)
    sources = Sources(inputs["index"][None], token[None], layout.batch, layout.position, layout.lengths)
    votes = copy_votes(inputs["index"], sources, inputs["scale"], inputs["gate"], k, sentinel)
    expected = copy_mixture(inputs["logits"], inputs["index"], token, inputs["scale"], inputs["gate"], k, sentinel)
    direction = torch.randn_like(expected)
    mixed = votes.mix(inputs["logits"])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-10)
    assert_grads_close((mixed * direction).sum(), (expected * direction).sum(), inputs)
