"""Every family of peers: its size, its causality, what trains, what is dropped, and what it is charged for."""

import copy
from operator import attrgetter

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM
from transformers.models.big_bird import modeling_big_bird

from tmt_geo.evaluate import PEERS, build_peer, count_flops, evaluate_model
from tmt_geo.evaluate.forward import plain_forward
from tmt_geo.evaluate.peers import scan_flops
from tmt_geo.evaluate.peers.families import FAMILIES
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.testing import assert_causal

V, D, L, S = 64, 32, 2, 24
PARAMS = 53_160  # which a step of experts meets with a tied head and without
SIZES = {"vocab_size": V, "d_model": D, "n_layers": L, "n_heads": 4, "max_seq_len": S, "keys": 4}
FOUR = {"n_layers": 4, "params": 80_000}


def peer(name, **change):
    if name == "bigbird" and not hasattr(modeling_big_bird, "create_causal_mask"):
        pytest.skip("this version of transformers does not mask BigBird as a decoder")
    torch.manual_seed(0)
    return build_peer(name, **{"params": PARAMS} | SIZES | change)


def ids(rows=2, length=S):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


def lively(model):
    """Weights large enough that every token shows in every later one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def at_paths(model, family, paths):
    return [attrgetter(path)(layer) for layer in attrgetter(family.layers)(model) for path in paths]


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("name", PEERS)
def test_parameters_are_met_and_the_head_is_tied_as_asked(name, tie):
    model = peer(name, tie=tie)
    count = sum({id(p): p.numel() for p in model.parameters()}.values())
    assert abs(count - PARAMS) <= 0.01 * PARAMS
    assert count == model.num_parameters()
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tie
    assert model.config.bos_token_id is model.config.eos_token_id is model.config.pad_token_id is None


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_no_token_attends_to_a_later_one(name, training):
    model = lively(peer(name)).train(training)

    def prefix(module, tokens):
        with torch.no_grad():
            return {"logits": plain_forward(module, tokens).logits[:, :13]}

    assert_causal(model, prefix, ids(), 13, V)
    with torch.no_grad():  # and it does attend to the one before, so that the test can fail
        changed = ids()
        changed[:, 11] = (changed[:, 11] + 1) % V
        moved = (plain_forward(model, ids()).logits - plain_forward(model, changed).logits).abs().amax(dim=(0, 2))
    assert moved[:11].max() <= 1e-5 < 1e-3 < moved[12]


def test_bigbird_is_dense_at_any_length():
    """Its sparse form, which takes over from some 700 tokens on, is not causal."""
    assert peer("bigbird").config.attention_type == "original_full"


def test_a_family_that_attends_to_later_tokens_is_refused(monkeypatch):
    """As BigBird did in some versions of the library."""
    monkeypatch.setattr(
        modeling_big_bird, "create_causal_mask", modeling_big_bird.create_bidirectional_mask, raising=False
    )
    with pytest.raises(ValueError, match=r"^'name' .*\(got 'bigbird'\)$"):
        build_peer("bigbird", PARAMS, **SIZES)


@pytest.mark.parametrize("name", PEERS)
def test_a_step_trains_every_parameter_that_is_said_to_train(name):
    model = peer(name, dropout=0.1).train()
    model(input_ids=ids(8), labels=ids(8)).loss.backward()
    assert torch.isfinite(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])).all()
    still = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert all("indexer" in key for key in still) and bool(still) == (name == "deepseek")


@pytest.mark.parametrize("name", PEERS)
def test_starts_near_uniform_and_learns(name):
    model, text = peer(name).train(), ids(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(8):
        loss = model(input_ids=text, labels=text).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(float(V)).log().item(), abs=0.3)
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize("name", PEERS)
def test_survives_saving(name, tmp_path):
    model = peer(name, dropout=0.1).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            plain_forward(again, ids()).logits, plain_forward(model, ids()).logits, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("name", PEERS)
def test_branch_ends_shrink_with_depth(name):
    """Against the library's own initialisation, drawn from the same seed."""
    family = FAMILIES[name]
    plain, scaled = (peer(name, scale_init=scale, **FOUR) for scale in (False, True))
    pairs = list(zip(plain.parameters(), scaled.parameters(), strict=True))
    smaller = [pair for pair in pairs if not torch.equal(*pair)]
    ends = at_paths(scaled, family, family.ends)
    assert {id(end) for end in ends} == {id(b) for _, b in smaller}
    for a, b in smaller:
        assert b.size(-2) == D  # they lead to the residual stream
        torch.testing.assert_close(b, a * len(ends) ** -0.5)
    assert len(ends) == (0 if name in ("gpt2", "bigbird") else 8)


@pytest.mark.parametrize("name", PEERS)
def test_branches_that_end_in_zero_begin_as_the_identity(name):
    """What comes out is the embedding, normalised by the library's own last norm."""
    family = FAMILIES[name]
    if not family.ends:
        with pytest.raises(ValueError, match=rf"^'zero_init' needs a family .*\(got '{name}'\)$"):
            peer(name, zero_init=True)
        return
    plain, model = (peer(name, zero_init=zero, **FOUR).eval() for zero in (False, True))
    ends = {id(end) for end in at_paths(model, family, family.ends)}
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert (b == 0).all() if id(b) in ends else torch.equal(a, b)
    with torch.no_grad():
        swapped = ids().flip(1)
        assert torch.equal(plain_forward(model, swapped).logits, plain_forward(model, ids()).logits.flip(1))


def test_gpt2_draws_its_branch_ends_small_by_itself():
    stds = [layer.mlp.c_proj.weight.std().item() for layer in peer("gpt2", **FOUR).transformer.h]
    assert stds == pytest.approx([0.02 / 8**0.5] * 4, rel=0.1)


@pytest.mark.parametrize("name", PEERS)
def test_dropout_acts_on_embedding_and_branches_alone(name, monkeypatch):
    """In training, as often in every family and never elsewhere; in a copy as well."""
    dropped, attention = [], []
    plain_dropout, plain_attention = F.dropout, F.scaled_dot_product_attention

    def dropout(x, p=0.5, training=True, inplace=False):
        if training and p:
            dropped.append((p, x.shape))
        return plain_dropout(x, p, training, inplace)

    def scaled_dot_product_attention(*args, dropout_p=0.0, **kwargs):
        attention.append(dropout_p)
        return plain_attention(*args, dropout_p=dropout_p, **kwargs)

    monkeypatch.setattr(F, "dropout", dropout)
    monkeypatch.setattr(F, "scaled_dot_product_attention", scaled_dot_product_attention)
    model = copy.deepcopy(peer(name, dropout=0.25)).train()
    model(input_ids=ids())
    assert dropped == [(0.25, (2, S, D))] * (1 + 2 * L)
    assert not any(attention)
    model.eval()(input_ids=ids())
    peer(name, dropout=0.0).train()(input_ids=ids())
    assert len(dropped) == 1 + 2 * L


@pytest.mark.parametrize("name", [name for name in PEERS if not FAMILIES[name].dropout])
def test_hooks_drop_what_is_added_to_the_residual_stream(name):
    model, family = peer(name, dropout=0.25).train(), FAMILIES[name]
    places = [model.get_input_embeddings(), *at_paths(model, family, family.branches)]
    shares = {}
    for place in places:
        place.register_forward_hook(
            lambda module, args, out: shares.update({module: (out == 0).float().mean().item()})
        )
    for train, share in ((True, 0.25), (False, 0.0)):
        model.train(train)(input_ids=ids(16))
        assert [shares[place] for place in places] == pytest.approx([share] * len(places), abs=0.02)


@pytest.mark.parametrize("name", PEERS)
def test_the_counter_finds_head_and_layers(name):
    model = peer(name)
    report = count_flops(model, ids())
    assert report.head == 2 * V * D
    assert report.edge_attention == 0
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2) - V * D
    assert report.layers > matrices or name == "mixtral"
    scored = evaluate_model(model, ids(1, 50)[0], words=20, bytes=90, context=S)
    assert scored.tokens_scored == 50 and scored.token_ppl == pytest.approx(V, rel=0.5)
    assert scored.flops_per_token_head == report.head


def test_the_counter_sees_two_of_four_experts():
    model, rows = peer("mixtral"), ids()
    config = model.config
    experts = 2 * 3 * 2 * D * config.intermediate_size
    attention = 4 * 2 * D * D + 2 * 2 * D * (S + 1) / 2
    rotary = D // config.num_attention_heads  # one product more in some versions of the library
    report = count_flops(model, rows)
    assert 0 <= report.layers - L * (attention + 2 * D * config.num_local_experts + experts) <= rotary
    assert report.search == 2 * L * config.num_local_experts  # the router's choice, which the balancing loss repeats


def test_a_scan_is_counted_with_its_recurrence():
    """The products of the state with the read-out as they run, the recurrence by formula."""
    model = peer("mamba")
    config = model.config
    inner, state = config.expand * D, config.state_size
    assert scan_flops(config) == 5 * 2 * L * inner * state
    rank = config.time_step_rank
    products = 2 * D * 2 * inner + 2 * inner * (rank + 2 * state) + 2 * rank * inner + 2 * inner * state
    products += 2 * inner * D
    convolution = 2 * inner * config.conv_kernel * (S + config.conv_kernel - 1) / S
    whole = 2 * L * (products + convolution) + scan_flops(config)
    assert count_flops(model, ids()).layers == pytest.approx(whole, rel=1e-12)
    assert all(scan_flops(peer(name).config) == 0 for name in PEERS if name != "mamba")


@pytest.mark.parametrize(("name", "reach"), [("llama", S), ("mistral", 4)])
def test_a_window_ends_where_it_says(name, reach):
    model = lively(peer(name, n_layers=1, params=20_000)).eval()
    changed = ids()
    changed[:, 2] = (changed[:, 2] + 1) % V
    with torch.no_grad():
        moved = (plain_forward(model, ids()).logits - plain_forward(model, changed).logits).abs().amax(dim=(0, 2))
    assert (moved > 1e-5).nonzero().flatten().tolist() == list(range(2, min(2 + reach, S)))


def test_the_gate_of_a_head_is_a_sigmoid_of_what_the_layer_reads():
    """Beside a Qwen3 of the same weights: half of what heads find without a preference, and else by the formula."""
    plain, weights = lively(peer("qwen3", n_layers=1)), "model.layers.0.self_attn.q_proj.weight"
    gated = peer("qwen3_next", n_layers=1, params=plain.num_parameters() + D * D)
    assert gated.config.intermediate_size == plain.config.intermediate_size
    heads, said = SIZES["n_heads"], {}
    for name, model in (("plain", plain), ("gated", gated)):
        model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(
            lambda module, args, name=name: said.update({name: args[0]})
        )
    plain.model.layers[0].input_layernorm.register_forward_hook(lambda module, args, out: said.update(read=out))
    for gate in (torch.zeros(D, D), torch.randn(D, D, generator=torch.Generator().manual_seed(2))):
        state = {name: weight - int("norm" in name) for name, weight in plain.state_dict().items()}  # gains less one
        rows = [part.view(heads, D // heads, D) for part in (state[weights], gate)]
        gated.load_state_dict(state | {weights: torch.cat(rows, 1).view(2 * D, D)})
        with torch.no_grad():
            plain_forward(plain, ids())
            plain_forward(gated, ids())
        share = 1 / (1 + (-said["read"] @ gate.T).exp())
        torch.testing.assert_close(said["gated"], said["plain"] * share, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3", "qwen3_next", "mistral", "mixtral"])
def test_a_copy_head_goes_on_top(name):
    model, text = CopyLM(peer(name), k=4, index_dim=4, memory=8).train(), ids() % 4  # few tokens: votes hit
    loss = model(text, labels=text).loss
    loss.backward()
    assert loss.item() < torch.tensor(float(V)).log().item()
    assert model.copy_head.lin_index.weight.grad.abs().sum() > 0


def test_an_index_selects_as_many_tokens_as_it_says():
    model, seen = peer("deepseek"), []
    model.model.layers[0].self_attn.indexer.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        plain_forward(model, ids())
    assert seen[0].shape == (2, S, 4)


def test_the_state_of_a_state_space_is_kept_in_bounds_by_its_expansion():
    for name, least in (("mamba", 16), ("mamba2", 64)):
        small, large = (peer(name, params=params).config for params in (PARAMS, 160_000))
        assert small.expand < large.expand
        assert least <= small.state_size and least <= large.state_size <= least + 2 * D


def test_an_unknown_family_is_named_with_the_choices():
    with pytest.raises(ValueError, match=r"^'name' must be one of llama, .*rwkv \(got 'lstm'\)$"):
        peer("lstm")


@pytest.mark.parametrize(
    ("family", "name", "change"),
    [
        ("rwkv", "n_layers", {"n_layers": 1}),
        ("mistral", "keys", {"keys": 0}),
        ("mamba", "params", {"params": 3_000}),
        ("mixtral", "params", {"params": 54_320}),
        ("gpt2", "dropout", {"dropout": -0.1}),
    ],
)
def test_impossible_sizes_are_named(family, name, change):
    with pytest.raises(ValueError, match=rf"^'{name}' .*\(got .*\)$"):
        peer(family, **change)
