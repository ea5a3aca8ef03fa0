"""What a language model is trained on: the tokens, and by their coefficients the losses of gates and indices."""

import pytest
import torch

from tmt_geo.models import TMTConfig, TMTModel


def make(**options):
    torch.manual_seed(1)
    sizes = {"vocab_size": 31, "d_model": 16, "n_heads": 2, "n_layers": 3, "max_seq_len": 12, "graph_k": 2}
    model = TMTModel(TMTConfig(**sizes, window=2, memory_anchors=0, dropout=0.0, **options)).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("items", [None, 7])
@pytest.mark.parametrize("coefficient", [0.0, 0.25, 3.0])
def test_the_entropy_of_the_gates_counts_by_its_coefficient(coefficient, items):
    """With a threshold of one all tokens reach all gates: two of three layers have one."""
    model, ids = make(exit_threshold=1.0, exit_loss_coef=coefficient), torch.randint(31, (3, 12))
    options = {} if items is None else {"num_items_in_batch": items}
    out = model(ids, labels=ids, skip_logits=False, **options)
    c = out.confidences[:2]
    entropy = -(c * c.log() + (1 - c) * (1 - c).log())
    tokens = -out.logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:].unsqueeze(2))
    expected = tokens.mean() + coefficient * entropy.mean()
    if items is not None:
        expected = tokens.sum() / items + coefficient * entropy.sum() / (2 * items)
    assert 0.05 < entropy.mean() < 0.69
    torch.testing.assert_close(out.loss.double(), expected, rtol=1e-5, atol=1e-6)
    assert model.eval()(ids, labels=ids).loss.item() == pytest.approx(tokens.mean().item(), rel=1e-5)
