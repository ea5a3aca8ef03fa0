"""The language model of this package, measured."""

import math

import pytest
import torch

from tmt_geo.evaluate import build_peer, count_flops, evaluate_model
from tmt_geo.models import TMTConfig, TMTModel

V, D, K, WINDOW, M, S = 41, 16, 3, 2, 5, 24


@pytest.fixture
def tmt():
    def make(seed=0, **change):
        torch.manual_seed(seed)
        sizes = {"vocab_size": V, "d_model": D, "n_heads": 2, "n_layers": 4, "max_seq_len": S, "graph_k": K}
        parts = {"window": WINDOW, "memory_anchors": M, "gated_streams": False, "dropout": 0.0}
        return TMTModel(TMTConfig(**sizes | parts | change)).eval()

    return make


def ids(*shape):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(3))


def unlike():
    """A row of tokens of which no two are equal: all of them are searched."""
    return torch.randperm(V, generator=torch.Generator().manual_seed(3))[:S].unsqueeze(0)


def confidence_quantile(model, share, text=None):
    """A threshold which this share of the tokens does not reach behind the first layer."""
    return torch.quantile(model(ids(1, S) if text is None else text).confidences[0], share).item()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 4])  # with 0 and 4 and a share of 0.3 a layer has a single token left
def test_operations_follow_the_active_share_exactly(tmt, share, seed):
    """Every matrix product of a layer, by hand, for the tokens that were active there."""
    threshold = {0.0: 0.0, 1.0: 1.0}.get(share) or confidence_quantile(tmt(seed, exit_threshold=1.0), share, unlike())
    model = tmt(seed, exit_threshold=threshold if share else 0.0)
    with torch.no_grad():
        out = model(unlike())
    active = (~out.exit_masks).sum(dim=(1, 2)).tolist()
    latest = [int(mask.nonzero()[-1, 1]) if mask.any() else 0 for mask in ~out.exit_masks]
    assert active[0] == S
    if 0 < share < 1:
        assert active[1] == pytest.approx(share * S, abs=1)

    layers, comparisons, fresh = 0, 0, S
    for layer, targets in enumerate(active):
        if targets == 0:
            break
        layers += fresh * 2 * 2 * D * D  # keys and values of the tokens that the layer before has changed
        layers += targets * 2 * 2 * D * D  # query and output
        layers += targets * 2 * D * 2  # gates of the two heads
        candidates = (
            latest[layer] - WINDOW
        )  # in one block: what the last of the active may attend to is scored for all
        # With a column for the length of each, but for a single token; and a product to find whether some are equal.
        layers += candidates * 2 * D if targets == 1 else targets * candidates * 2 * (D + 1) + S * 2 * D
        layers += targets * (2 * D * D + 2 * D * 4 * D + 2 * 4 * D * D)  # gate of the streams, both in, both out
        layers += M * 2 * 2 * D * D + targets * 2 * 2 * D * M  # memory: keys and values of anchors, read
        layers += targets * 2 * D if layer < 3 else 0  # exit gate
        # Whole chunks; the search of a single token has none, and has three products.
        comparisons += 3 * candidates if targets == 1 else targets * -(-candidates // 16) * 16
        fresh = targets
    report = count_flops(model, unlike())
    assert report.layers == pytest.approx(layers / S, rel=1e-12)
    assert report.search == pytest.approx(comparisons / S, rel=1e-12)
    assert report.edge_attention == pytest.approx(4 * D * out.num_edges.sum().item() / S, rel=1e-12)
    assert report.head == 2 * D * V


def test_fewer_active_tokens_cost_less(tmt):
    half = confidence_quantile(tmt(exit_threshold=1.0), 0.5)
    totals = [count_flops(tmt(exit_threshold=threshold), ids(4, S)).total for threshold in (0.0, half, 1.0)]
    assert totals[0] < totals[1] < totals[2]
    # with all gone behind the first of four layers, a quarter is left, and the head
    assert totals[0] - 2 * D * V == pytest.approx((totals[2] - 2 * D * V) / 4, rel=0.02)


@pytest.mark.parametrize("decay", ["log", None])
def test_dense_attention_is_not_charged_twice(tmt, decay):
    model = tmt(mesh=False, decay=decay, exit=False)
    report = count_flops(model, unlike())
    assert report.edge_attention == report.search == 0
    pairs = S * (S + 1) / 2 if decay is None else S * S  # the fused kernel skips the future, the decay's form does not
    search = 4 * (2 * (D + 1) * (S - 1 - WINDOW) + 2 * D)
    rest = count_flops(tmt(exit=False, decay=decay), unlike()).layers - search
    assert report.layers == pytest.approx(rest + 4 * 4 * D * pairs / S, rel=1e-12)


def test_an_approximate_search_is_charged_for_what_it_gathers(tmt):
    windows = count_flops(tmt(exit=False, search="windows", rebuild_every=2, index_dim=8), unlike())
    exact = count_flops(tmt(exit=False, rebuild_every=2, index_dim=8), unlike())
    found = 2 * 9 * (S - 1 - WINDOW) + 2 * 8
    assert windows.layers - exact.layers == pytest.approx(2 * (320 * 2 * 8 - found), rel=1e-9)


def test_report_shows_the_shares_of_the_scored_tokens(tmt):
    text = ids(3 * S)
    model = tmt(exit_threshold=confidence_quantile(tmt(exit_threshold=1.0), 0.5))
    report = evaluate_model(model, text, words=10, bytes=10, context=S, stride=S)
    # no start token: the first token is no target, and the last window is moved back by one token
    starts = torch.tensor([0, S, 2 * S - 1])
    with torch.no_grad():
        masks = model(text[starts.unsqueeze(1) + torch.arange(S)]).exit_masks
    masks[:, 2, 0] = True  # its target was scored by the window before
    expected = (~masks).sum(dim=(1, 2)).double() / (3 * S - 1)
    assert report.tokens_scored == 3 * S
    assert report.active_share == pytest.approx(expected.tolist(), rel=1e-12)
    assert 0 < report.active_share[1] < 1


def test_batch_size_alters_nothing(tmt):
    model, text = tmt(exit_threshold=0.12).double(), ids(100)
    nlls = [evaluate_model(model, text, words=9, bytes=9, context=S, batch_size=b).nll for b in (1, 5)]
    assert nlls[0] == pytest.approx(nlls[1], rel=1e-12)


def test_peer_of_the_same_size_is_measured_alike(tmt):
    model = tmt()
    peer = build_peer("llama", model.num_parameters(), vocab_size=V, d_model=D, n_layers=4, n_heads=2, max_seq_len=S)
    assert abs(peer.num_parameters() / model.num_parameters() - 1) <= 0.01
    reports = [evaluate_model(m, ids(80), words=40, bytes=200, context=S, start_token=0) for m in (model, peer)]
    assert reports[0].tokens_scored == reports[1].tokens_scored == 80
    for report in reports:
        assert report.token_ppl == pytest.approx(V, rel=0.2)
        assert report.word_ppl == pytest.approx(math.exp(report.nll / 40), rel=1e-12)
        assert len(report.active_share) == 4


def test_scores_are_those_of_the_logits_with_and_without_them(tmt):
    """A head that cannot be taken apart, as one with an adapter, is run as it is."""
    text, counts = ids(100), {"words": 9, "bytes": 9, "context": S, "stride": 7}
    plain, biased = tmt(copy_k=2), tmt(copy_k=2)
    biased.lm_head.bias = torch.nn.Parameter(torch.zeros(V))
    assert plain.can_skip_logits and not biased.can_skip_logits
    expected = evaluate_model(biased, text, **counts).nll
    assert evaluate_model(plain, text, **counts).nll == pytest.approx(expected, rel=1e-6)
    torch.nn.init.normal_(biased.lm_head.bias)
    assert abs(evaluate_model(biased, text, **counts).nll - expected) > 1
