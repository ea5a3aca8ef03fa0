import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.modeling_outputs import CausalLMOutput

from tmt_geo.evaluate import count_flops, evaluate_model, flops

V, D, H, I, L = 37, 12, 3, 20, 2  # noqa: E741
ROTARY = D // H  # some versions of the library make the angles of a head by a matrix product, once for all layers


def ids(rows, length):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 7), (3, 11)])
def test_llama_equals_the_hand_calculation(llama, rows, length):
    report = count_flops(llama(), ids(rows, length))
    projections = 4 * 2 * D * D + 3 * 2 * D * I
    attention = 2 * 2 * D * (length + 1) / 2  # scores and weighted sum over the mean number of keys of a causal token
    assert 0 <= report.layers - L * (projections + attention) <= ROTARY
    assert report.head == 2 * D * V
    assert report.search == report.edge_attention == 0
    assert report.total == report.layers + report.head


def test_shared_key_heads_cost_less_to_project_and_the_same_to_attend(llama):
    full, shared = (count_flops(llama(num_key_value_heads=heads), ids(1, 9)) for heads in (3, 1))
    assert full.layers - shared.layers == pytest.approx(L * 2 * 2 * D * (D - D // H), rel=1e-12)


def test_eager_attention_is_charged_for_the_whole_square_it_computes(llama):
    model = llama()
    fused = count_flops(model, ids(2, 9)).layers
    model.set_attn_implementation("eager")
    eager = count_flops(model, ids(2, 9)).layers
    assert eager - fused == pytest.approx(L * 4 * D * (9 - 10 / 2), rel=1e-12)


def test_fused_attention_with_a_mask_is_charged_for_all_pairs(bigram):
    class Masked(type(bigram())):
        """Attends under a mask of its own, of which the kernel cannot know that it is causal."""

        def forward(self, input_ids):
            B, S = input_ids.shape
            x, mask = torch.zeros(B, 2, S, 3), torch.ones(S, S, dtype=torch.bool).tril()
            nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
            return super().forward(input_ids)

    report = count_flops(bigram(cls=Masked), ids(2, 5) % 7)
    assert report.layers == 2 * 4 * 3 * 5  # 2 heads, 4 operations a channel and pair, 3 channels, 5 keys a token


def test_search_and_edges_are_added_by_formula(bigram):
    class Mesh(type(bigram())):
        """Reports edges, and ranks 10 scores a token."""

        def forward(self, input_ids):
            out = CausalLMOutput(logits=super().forward(input_ids).logits)
            torch.zeros(*input_ids.shape, 10).topk(3)
            out.num_edges = torch.tensor([6, 4])
            return out

    model = bigram(cls=Mesh)
    report = count_flops(model, ids(2, 5) % 7)
    assert report.search == 10
    assert report.edge_attention == 4 * model.config.hidden_size * 10 / 10
    assert report.layers == 0
    assert report.head == 2 * 7 * 7
    assert report.total == 10 + 16 + 98


def test_count_leaves_gradients_and_mode_alone(llama):
    model = llama().train()
    count_flops(model, ids(1, 5))
    assert model.training
    assert torch.is_grad_enabled()


def test_evaluation_reports_the_same_count(llama):
    model, context = llama(), 16
    report = evaluate_model(model, ids(1, 200)[0], words=10, bytes=10, context=context)
    counted = count_flops(model, ids(1, context))
    assert report.flops_per_token == pytest.approx(counted.layers, abs=ROTARY)
    assert report.flops_per_token_head == counted.head


@pytest.mark.parametrize("shape", [(5,), (0, 5), (1, 0), (1, 2, 3)])
def test_bad_ids_are_named(llama, shape):
    with pytest.raises(ValueError, match=r"^'input_ids' .*\(got .*\)$"):
        count_flops(llama(), torch.zeros(shape, dtype=torch.long))


def test_grouped_experts_are_counted():
    rows, experts = torch.randn(8, 16).bfloat16(), torch.randn(2, 16, 16).bfloat16()
    with FlopCounterMode(display=False, custom_mapping=flops.FORMULAS) as counter:
        torch._grouped_mm(rows, experts, offs=torch.tensor([3, 8], dtype=torch.int32))
    assert counter.get_total_flops() == 2 * 8 * 16 * 16
