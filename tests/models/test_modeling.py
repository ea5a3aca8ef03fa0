import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPast

from tmt_geo import TMTBackbone, TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

OFF = {
    "gated_heads": False,
    "mesh": False, "decay": None, "exit": False, "dual_stream": False, "memory_anchors": 0, "window": 0,
    "shift": False, "rotary": False,
}  # fmt: skip


def test_everything_off_is_a_plain_pre_norm_transformer():
    model = lively(TMTModel(tiny_config(**OFF, tie_word_embeddings=False)), steps=0)
    torch_layer = nn.TransformerEncoderLayer(32, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
    reference = nn.TransformerEncoder(torch_layer, 3, nn.LayerNorm(32), enable_nested_tensor=False)
    for ours, theirs in zip(model.backbone.encoder.layers, reference.layers, strict=True):
        conv = ours.attention
        parts = (conv.lin_query, conv.lin_key, conv.lin_value)
        theirs.self_attn.in_proj_weight.data = torch.cat([part.weight for part in parts])
        theirs.self_attn.in_proj_bias.data = torch.cat([part.bias for part in parts])
        for mine, their in ((ours.lin_out, theirs.self_attn.out_proj), (ours.ffn.lin_in, theirs.linear1),
                            (ours.ffn.lin_out, theirs.linear2), (ours.norm_attention, theirs.norm1),
                            (ours.norm_ffn, theirs.norm2)):  # fmt: skip
            their.load_state_dict(mine.state_dict())
    reference.norm.load_state_dict(model.backbone.encoder.norm.state_dict())
    model, reference = model.double().train(), reference.double().train()
    ids = torch.randint(VOCAB, (2, 15))
    mask = nn.Transformer.generate_square_subsequent_mask(15, dtype=torch.float64)
    expected = model.lm_head(reference(model.backbone.embed_tokens(ids), mask, is_causal=True))
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-10)
    count = sum(p.numel() for p in model.backbone.encoder.parameters())
    assert count == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize(
    "name", ["decay", "exit", "dual_stream", "memory_anchors", "window", "shift", "rotary", "gated_heads", "mesh"]
)
def test_every_switch_switches(name):
    torch.manual_seed(0)
    published = {"gated_streams": False}  # whose units fit the plain network
    on, off = (TMTModel(tiny_config(**published | change)) for change in ({}, {name: OFF[name]}))
    own = {"decay": ".decay.", "exit": ".gate.lin", "dual_stream": "semantic", "memory_anchors": "memory"}
    own["gated_heads"] = ".lin_gate."
    if name in own:
        assert any(own[name] in key for key in on.state_dict())
        assert not any(own[name] in key for key in off.state_dict())
    ids = torch.randint(VOCAB, (2, 20))
    on, off = lively(on), lively(off)
    off.load_state_dict(on.state_dict(), strict=False)
    assert not torch.allclose(on(ids).logits, off(ids).logits, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"mesh": False}, {"mesh": False, "decay": None}, {"num_key_value_heads": 2}])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_equals_no_padding(ids, options, side):
    model = lively(TMTModel(tiny_config(**options)))
    lengths = [20, 7, 13]
    padded, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, length in enumerate(lengths):
        place = slice(20 - length, None) if side == "left" else slice(length)
        padded[i, place], mask[i, place] = ids[i, :length], 1
    out = model(padded, attention_mask=mask)
    for i, length in enumerate(lengths):
        alone = model(ids[i : i + 1, :length])
        place = mask[i].bool()
        torch.testing.assert_close(out.logits[i, place], alone.logits[0], rtol=0, atol=1e-5)
        assert torch.equal(out.exit_masks[:, i, place], alone.exit_masks[:, 0])
        assert out.exit_masks[:, i, ~place].all()
    labels = torch.full_like(ids, -100)
    labels[mask.bool()] = padded[mask.bool()]
    loss = model(padded, attention_mask=mask, labels=labels).loss
    parts = [model(ids[i : i + 1, :n], labels=ids[i : i + 1, :n]).loss * (n - 1) for i, n in enumerate(lengths)]
    if side == "right":
        torch.testing.assert_close(loss, sum(parts) / (sum(lengths) - 3))


@pytest.mark.parametrize("options", [{}, {"mesh": False}, {"exit": False}, {"exit_threshold": 0.3}, {"shift": False},
                                     {"num_key_value_heads": 1}, {"memory_anchors": 0}, {"index_dim": 8},
                                     {"rebuild_every": 2, "index_dim": 8}],
                         ids=lambda options: str(options))  # fmt: skip
def test_cached_steps_equal_the_full_forward_for_a_left_padded_batch(ids, options):
    model = lively(TMTModel(tiny_config(**options)))
    mask = torch.ones_like(ids)
    mask[1, :6] = mask[2, :3] = 0
    full = model(ids, attention_mask=mask, use_cache=False)
    assert full.past_key_values is None
    for chunks in ([9] + [1] * 11, [4, 5, 1, 10]):
        cache, done = None, 0
        for n in chunks:
            out = model(
                ids[:, done : done + n], attention_mask=mask[:, : done + n], past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            place = mask[:, done : done + n].bool()
            torch.testing.assert_close(out.logits[place], full.logits[:, done : done + n][place], rtol=0, atol=1e-5)
            assert torch.equal(out.exit_masks, full.exit_masks[:, :, done : done + n])
            done += n
        assert cache.get_seq_length() == 20


def test_a_pyg_batch_gives_the_logits_of_the_block(model, ids):
    block = model(ids)
    graphs = [Data(input_ids=row, time=torch.arange(20), num_nodes=20) for row in ids]
    batch = next(iter(DataLoader(graphs, batch_size=3)))
    out = model(input_ids=batch.input_ids, batch=batch.batch, time=batch.time)
    torch.testing.assert_close(out.logits, block.logits.flatten(0, 1), rtol=0, atol=1e-5)
    assert torch.equal(out.exit_masks, block.exit_masks.flatten(1))
    flat, rows = (
        dict(zip(map(tuple, edge_index.t().tolist()), edge_weight.tolist(), strict=True))
        for edge_index, edge_weight in (out.graph_edges, block.graph_edges)
    )
    assert flat == pytest.approx(rows, abs=1e-5)
    ragged = Batch.from_data_list([Data(input_ids=ids[i, :n], time=torch.arange(n), num_nodes=n)
                                   for i, n in enumerate((4, 20, 11))])  # fmt: skip
    out = model(input_ids=ragged.input_ids, batch=ragged.batch, time=ragged.time)
    torch.testing.assert_close(out.logits[4:24], block.logits[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.logits[24:], block.logits[2, :11], rtol=0, atol=1e-5)


def test_edges_are_the_nearest_and_the_window(model, ids):
    out = model(ids, output_edges=True, output_hidden_states=True)
    assert len(out.graph_edges) == 3 and len(out.hidden_states) == 4
    for layer in range(3):
        (src, dst), weight = out.graph_edges[layer]
        assert (src < dst).all() and (src // 20 == dst // 20).all()
        targets = ~out.exit_masks[layer].flatten()
        assert set(dst.tolist()) <= set(targets.nonzero().squeeze(1).tolist())
        degree = torch.bincount(dst, minlength=60)
        expected = torch.arange(20).clamp(max=5).repeat(3) * targets  # 3 nearest, 2 before
        assert torch.equal(degree, expected)
        assert int(out.num_edges[layer]) == int(degree.sum()) + int(targets.sum())
        x = nn.functional.normalize(out.hidden_states[layer], dim=-1)
        b, i = divmod(int(targets.nonzero()[-1]), 20)
        nearest = (x[b, : i - 2] @ x[b, i]).topk(3).indices + b * 20
        assert set(nearest.tolist()) | {b * 20 + i - 1, b * 20 + i - 2} == set(src[dst == b * 20 + i].tolist())
        flat = out.hidden_states[layer].flatten(0, 1).double()
        expected = nn.functional.cosine_similarity(flat[src], flat[dst])
        torch.testing.assert_close(weight, expected.float(), rtol=0, atol=1e-6)
        assert not weight.requires_grad
    torch.testing.assert_close(out.active_share, 1 - out.exit_masks.float().mean(dim=(1, 2)))


def test_layers_share_a_mesh_until_it_is_rebuilt(ids):
    model = lively(TMTModel(tiny_config(n_layers=5, rebuild_every=2, exit=False)))
    edges = [set(map(tuple, edge_index.t().tolist())) for edge_index, _ in model(ids, output_edges=True).graph_edges]
    assert edges[0] == edges[1] != edges[2] == edges[3] != edges[4]
    with_exits = lively(TMTModel(tiny_config(n_layers=5, rebuild_every=2, exit_budget=0.6)))
    out = with_exits(ids, output_edges=True)
    assert 0 < out.exit_masks[1].sum() < ids.numel()
    for (edge_index, _), mask in zip(out.graph_edges, out.exit_masks, strict=True):
        assert not mask.flatten()[edge_index[1]].any()  # of a shared mesh the active rows alone


def test_an_index_is_what_is_searched(ids):
    model = lively(TMTModel(tiny_config(n_layers=1, index_dim=4, exit=False, window=0)))
    out = model(ids, output_hidden_states=True)
    z = model.backbone.encoder.layers[0].search.index(out.hidden_states[0].flatten(0, 1))
    z = torch.nn.functional.normalize(z, dim=-1).view(*ids.shape, -1)
    score = (z @ z.transpose(1, 2))[0, -1, :-1] + 1e-6 * torch.arange(19)
    (source, target), _ = out.graph_edges
    found = source[target == 19]
    assert set(found.tolist()) == set(score.topk(3).indices.tolist())


def test_exit_masks_grow_and_frozen_states_stay(model, ids):
    out = model(ids, output_hidden_states=True)
    assert not out.exit_masks[0].any() and 0 < out.exit_masks[2].float().mean() < 1
    for layer in range(1, 3):
        frozen = out.exit_masks[layer]
        assert (frozen | ~out.exit_masks[layer - 1]).all()
        assert torch.equal(out.hidden_states[layer + 1][frozen], out.hidden_states[layer][frozen])
        assert not torch.equal(out.hidden_states[layer + 1][~frozen], out.hidden_states[layer][~frozen])


def test_save_and_load_is_bit_equal(model, ids, tmp_path):
    expected = model(ids)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    for loader in (TMTModel, AutoModelForCausalLM):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, TMTModel) and not loaded.training
        for (name, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
        torch.testing.assert_close(
            loaded(ids).logits, expected.logits, rtol=0, atol=1e-6
        )  # same weights, other memory
        assert loaded.lm_head.weight is loaded.backbone.embed_tokens.weight
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == loaded.config.to_dict()


def test_auto_model_is_the_backbone_and_a_backbone_can_be_saved(model, ids, tmp_path):
    expected = model(ids)
    model.save_pretrained(tmp_path / "whole")
    backbone = AutoModel.from_pretrained(tmp_path / "whole")
    assert type(backbone) is TMTBackbone and type(model.base_model) is TMTBackbone and not backbone.training
    backbone.save_pretrained(tmp_path / "backbone")
    for again in (backbone, AutoModel.from_pretrained(tmp_path / "backbone"), model.base_model):
        assert again.state_dict().keys() == backbone.state_dict().keys()
        out = again(ids)
        assert isinstance(out, BaseModelOutputWithPast) and again(ids, return_dict=False)[0] is not None
        torch.testing.assert_close(out.last_hidden_state, expected.last_hidden_state, rtol=0, atol=1e-6)
        torch.testing.assert_close(out[0], out.last_hidden_state, rtol=0, atol=0)
        assert torch.equal(out.exit_masks, expected.exit_masks)
        assert torch.equal(out.memory_state, expected.memory_state)
        step = again(ids[:, :1], past_key_values=out.past_key_values).last_hidden_state
        assert step.shape == (3, 1, 32)
    headed = AutoModelForCausalLM.from_pretrained(tmp_path / "backbone")
    torch.testing.assert_close(headed(ids).logits, expected.logits, rtol=0, atol=1e-6)  # its head is tied
    copying = AutoModel.from_config(tiny_config(copy_k=4, exit_rule="learned"))
    assert copying.train()(ids).last_hidden_state.shape == copying.eval()(ids).last_hidden_state.shape == (3, 20, 32)


def test_loading_from_nothing_is_plain_initialisation(tmp_path):
    """What is missing in a checkpoint is initialised as a new model would be, buffers included."""
    config = tiny_config(exit_rule="learned", n_layers=8, index_dim=16, mesh_memory=8)
    plain, loaded = TMTModel(config), TMTModel.from_pretrained(None, config=config, state_dict={})
    for (name, a), b in zip(plain.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert b.isfinite().all(), name
        if a.numel() >= 256:
            assert float(a.std()) == pytest.approx(float(b.std()), rel=0.3, abs=1e-8), name
        elif a.std() == 0 or "decay" in name or a.numel() == 1:
            torch.testing.assert_close(a, b, msg=name)
    branch = plain.backbone.encoder.layers[0].lin_out.weight.std()
    assert float(branch) == pytest.approx(0.02 / math.sqrt(16), rel=0.15)


def test_embeddings_can_be_resized(model, ids):
    model.resize_token_embeddings(70)
    assert model(ids).logits.shape[-1] == 70
    assert model.lm_head.weight is model.backbone.embed_tokens.weight


@pytest.mark.parametrize("options", [{"exit_threshold": 0.3}, {"exit_rule": "learned"}, {}])
def test_four_small_batches_are_one_large_batch(ids, options):
    ids = torch.cat([ids, ids[:1].flip(1)])
    model = lively(TMTModel(tiny_config(exit_loss_coef=5.0, **options))).double().train()
    items = torch.tensor(4 * 19)
    grads = []
    for parts in (ids.split(4), ids.split(1)):
        twin = TMTModel(model.config).double()
        twin.load_state_dict(model.state_dict())
        state = twin.state_dict()
        buffers = {name: value.clone() for name, value in twin.named_buffers()}
        for part in parts:
            twin.train()(part, labels=part, num_items_in_batch=items).loss.backward()
            twin.load_state_dict({**state, **buffers})  # thresholds as the step began
        grads.append({name: p.grad for name, p in twin.named_parameters()})
    for name, grad in grads[0].items():
        if grad is not None:
            torch.testing.assert_close(grad, grads[1][name], rtol=0, atol=1e-10, msg=name)


def test_every_parameter_learns(ids):
    model = lively(TMTModel(tiny_config(exit_rule="learned", exit_budget=0.8, index_dim=8))).train()
    model(ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_overfits_eight_sentences():
    torch.manual_seed(0)
    model = TMTModel(tiny_config(exit_budget=0.7)).train()
    ids = torch.randint(VOCAB, (8, 16))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(250):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss) < 0.5  # log 61 = 4.1 at the start


def test_bfloat16_autocast_trains_and_selects_in_float32(ids):
    model = lively(TMTModel(tiny_config())).train()
    expected = model.eval()(ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model.eval()(ids)
        loss = model.train()(ids, labels=ids).loss
    loss.backward()
    assert out.logits.dtype == torch.bfloat16 and loss.isfinite()
    assert (out.logits.float() - expected.logits).abs().mean() < 0.1 * expected.logits.std()


@pytest.mark.parametrize("options", [{}, {"mesh": False}, {"exit_rule": "learned"}])
def test_bfloat16_weights_run(ids, options):
    model = TMTModel(tiny_config(**options)).bfloat16()
    model.train()(ids, labels=ids).loss.backward()
    assert model.eval().generate(ids, max_new_tokens=3).shape == (3, 23)


def test_anchors_of_a_plain_training_loop_move_and_keep_rank(ids):
    model = TMTModel(tiny_config(memory_anchors=8)).train()
    before = model.backbone.encoder.layers[0].memory.anchors.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        batch = torch.randint(VOCAB, (4, 20))
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for layer in model.backbone.encoder.layers:
        assert torch.linalg.matrix_rank(layer.memory.anchors) == 8
    assert not torch.equal(before, model.backbone.encoder.layers[0].memory.anchors)
    assert not any("anchors" in name for name, _ in model.named_parameters())


def test_trains_in_the_hugging_face_trainer(tmp_path):
    data = [{"input_ids": row, "labels": row} for row in torch.randint(VOCAB, (8, 12))]
    arguments = TrainingArguments(
        tmp_path, max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=2, report_to=[],
        gradient_checkpointing=True, eval_strategy="steps", eval_steps=3, use_cpu=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(TMTModel(tiny_config()), arguments, train_dataset=data, eval_dataset=data)
    result = trainer.train()
    assert math.isfinite(result.training_loss)
    assert math.isfinite(trainer.evaluate()["eval_loss"])


def test_logits_to_keep_tuple_outputs_and_embeddings_in(model, ids):
    out = model(ids)
    assert torch.allclose(model(ids, logits_to_keep=1).logits, out.logits[:, -1:], atol=1e-6)
    assert torch.equal(model(ids, return_dict=False)[0], out.logits)
    embeds = model.backbone.embed_tokens(ids)
    assert torch.equal(model(inputs_embeds=embeds).logits, out.logits)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("'input_ids'", {"input_ids": torch.tensor([[0, VOCAB]])}),
        ("'input_ids'", {"input_ids": torch.tensor([[-1, 3]])}),
        ("'input_ids'", {"input_ids": torch.zeros(1, 0, dtype=torch.long)}),
        ("'input_ids'", {}),
        ("'attention_mask'", {"input_ids": torch.zeros(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 3)}),
        ("'attention_mask'", {"input_ids": torch.zeros(1, 4, dtype=torch.long), "attention_mask": torch.zeros(1, 4)}),
        ("'position_ids'", {"input_ids": torch.zeros(1, 4, dtype=torch.long), "position_ids": torch.zeros(1, 4)}),
        ("'batch'", {"input_ids": torch.zeros(4, dtype=torch.long), "batch": torch.zeros(3, dtype=torch.long)}),
    ],
)
def test_bad_input_names_the_argument(model, argument, call):
    with pytest.raises(ValueError, match=argument):
        model(**call)
