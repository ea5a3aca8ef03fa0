import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

import tmt_geo
from tmt_geo.models import QuarticConfig, QuarticModel
from tmt_geo.models.hub_files import CODE, CODE_FILE

VOCAB = 29
FRESH = """
import sys
from transformers import AutoModelForCausalLM
import torch

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__name__ == "QuarticModel" and type(model).__module__.startswith("tmt_geo.")
assert model.generate(torch.arange(1, 7).unsqueeze(0), max_new_tokens=2).shape == (1, 8)
"""


def tiny_config(**options):
    sizes = {
        "num_tokens": VOCAB, "dim": 16, "depth": 2, "heads": 2, "dim_head": 6, "dim_edges": 8, "edge_heads": 2,
        "linear_heads": 2, "linear_dim_head": 3, "max_seq_len": 32,
    }  # fmt: skip
    return QuarticConfig(**sizes | options)


def stirred(**options):
    model = QuarticModel(tiny_config(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@pytest.fixture
def model():
    return stirred()


@pytest.fixture
def ids():
    return torch.randint(1, VOCAB, (3, 10))


def test_names_of_the_published_call_and_of_hugging_face():
    config = tiny_config()
    assert (config.vocab_size, config.hidden_size, config.edge_size, config.max_position_embeddings) == (29, 16, 8, 32)
    assert config.dim == 16 and config.num_residual_streams == config.num_residual_lanes == 4
    model = QuarticModel(tiny_config(num_residual_streams=2, edge_forms=("factored",), ablate_edges=False))
    assert model.transformer.causal and model.transformer.num_lanes == 2


def test_the_loss_is_the_cross_entropy_of_the_next_token(model, ids):
    out = model(ids, labels=ids)
    expected = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(out.loss, expected)
    ignored = ids.masked_fill(torch.arange(10) < 4, -100)
    expected = F.cross_entropy(out.logits[:, 3:-1].flatten(0, 1), ids[:, 4:].flatten())
    torch.testing.assert_close(model(ids, labels=ignored).loss, expected)
    total = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    torch.testing.assert_close(model(ids, labels=ids, num_items_in_batch=torch.tensor(11)).loss, total / 11)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_equals_no_padding(model, ids, side):
    padded, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    lengths = [10, 3, 6]
    for row, length in enumerate(lengths):
        place = slice(10 - length, None) if side == "left" else slice(length)
        padded[row, place], mask[row, place] = ids[row, :length], 1
    logits = model(padded, attention_mask=mask).logits
    position = (mask.cumsum(1) - 1).clamp(min=0)
    assert torch.equal(model(padded, attention_mask=mask, position_ids=position).logits, logits)
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length]).logits[0]
        torch.testing.assert_close(logits[row, mask[row].bool()], alone, rtol=0, atol=1e-5)


def test_greedy_generation_is_one_argmax_after_another(model, ids):
    padded = torch.cat([torch.zeros_like(ids[:, :3]), ids], 1)
    mask = (padded > 0).long()
    expected = ids
    for _ in range(5):
        expected = torch.cat([expected, model(expected).logits[:, -1].argmax(-1, keepdim=True)], 1)
    out = model.generate(ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(out, expected) and out[:, 10:].unique().numel() > 1
    out = model.generate(padded, attention_mask=mask, max_new_tokens=5, do_sample=False)
    assert torch.equal(out[:, 3:], expected)


def test_beams_and_samples(model, ids):
    assert model.generate(ids, max_new_tokens=4, num_beams=3, do_sample=False).shape == (3, 14)
    assert model.generate(ids, max_new_tokens=4, do_sample=True, num_return_sequences=2).shape == (6, 14)


@pytest.mark.parametrize("forms", [("linear",), ("factored", "pair")])
def test_save_and_load_is_bit_equal(ids, forms, tmp_path):
    model = stirred(edge_forms=forms)
    model.save_pretrained(tmp_path)
    for loader in (QuarticModel, AutoModelForCausalLM):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is QuarticModel and not loaded.training
        for (name, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
        assert loaded.transformer.lm_head.weight is loaded.transformer.embed_tokens.weight
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == loaded.config.to_dict()
    assert json.loads((tmp_path / "config.json").read_text())["edge_forms"] == list(forms)
    assert (tmp_path / CODE_FILE).read_text() == CODE


def test_a_process_without_our_import_loads_it(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    root = str(Path(tmt_geo.__file__).parents[1])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": root}
    command = [sys.executable, "-c", FRESH, str(tmp_path / "saved")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def test_loading_from_nothing_is_plain_initialisation():
    config = tiny_config(edge_forms=("linear", "pair", "gated"), dim=64, dim_edges=32)
    plain, loaded = QuarticModel(config), QuarticModel.from_pretrained(None, config=config, state_dict={})
    for (name, a), b in zip(plain.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert b.isfinite().all(), name
        if a.numel() >= 256 and a.std() > 0:
            assert float(a.std()) == pytest.approx(float(b.std()), rel=0.3), name
        elif a.numel() < 64 and "missing" not in name and "linear" not in name and a.dim() == 1:
            torch.testing.assert_close(a, b, msg=name)
    talking, lanes = loaded.transformer.layers[1].attention.attention.before, loaded.transformer.layers[1].ffn_lanes
    assert torch.equal(talking.weight, torch.eye(2))
    assert torch.equal(lanes.mix, lanes.initial_mix()) and lanes.mix[3, 0] == 1 and not lanes.dynamic.any()
    assert float(loaded.transformer.layers[0].edge_block.attentions[1].missing.std()) == pytest.approx(1, rel=0.3)


def test_embeddings_can_be_resized_and_untied(model, ids):
    model.resize_token_embeddings(35)
    assert model(ids).logits.shape[-1] == 35
    assert model.transformer.lm_head.weight is model.transformer.embed_tokens.weight
    apart = QuarticModel(tiny_config(tie_word_embeddings=False)).transformer
    assert not torch.equal(apart.lm_head.weight, apart.embed_tokens.weight)


def test_checkpointed_gradients_are_the_plain_ones(model, ids):
    grads = []
    for options in (None, {"use_reentrant": False}, {"use_reentrant": True}):
        twin = copy.deepcopy(model).double().train()
        if options is not None:
            twin.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
            assert twin.is_gradient_checkpointing
        twin(ids, labels=ids).loss.backward()
        grads.append({name: parameter.grad for name, parameter in twin.named_parameters()})
    for name, grad in grads[0].items():
        for other in grads[1:]:
            torch.testing.assert_close(other[name], grad, rtol=0, atol=1e-12, msg=name)


def test_four_small_batches_are_one_large_batch(model):
    ids, grads = torch.randint(VOCAB, (4, 8)), []
    for parts in (ids.split(4), ids.split(1)):
        twin = copy.deepcopy(model).double().train()
        for part in parts:
            twin(part, labels=part, num_items_in_batch=torch.tensor(4 * 7)).loss.backward()
        grads.append({name: parameter.grad for name, parameter in twin.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=0, atol=1e-10, msg=name)


def test_trains_in_the_hugging_face_trainer_and_overfits(tmp_path):
    torch.manual_seed(0)
    data = [{"input_ids": row, "labels": row} for row in torch.randint(VOCAB, (8, 8))]
    arguments = TrainingArguments(
        tmp_path, max_steps=120, per_device_train_batch_size=8, report_to=[], use_cpu=True, save_strategy="no",
        learning_rate=1e-2, lr_scheduler_type="constant", disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    model = QuarticModel(tiny_config(edge_forms=("factored",)))
    Trainer(model, arguments, train_dataset=data, eval_dataset=data).train()
    rows = torch.stack([row["input_ids"] for row in data])
    assert float(model.eval()(rows, labels=rows).loss.detach()) < 0.7  # log 29 = 3.4 at the start


def test_bfloat16_runs(ids):
    model = QuarticModel(tiny_config(edge_forms=("linear", "factored", "pair"))).bfloat16()
    model.train()(ids, labels=ids).loss.backward()
    assert model.eval().generate(ids, max_new_tokens=2).shape == (3, 12)
    model = model.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(ids, labels=ids).loss
    loss.backward()
    assert loss.isfinite()


def test_logits_to_keep_tuple_outputs_and_embeddings_in(model, ids):
    out = model(ids)
    torch.testing.assert_close(model(ids, logits_to_keep=1).logits, out.logits[:, -1:])
    assert torch.equal(model(ids, return_dict=False)[0], out.logits)
    assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, out.logits)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "one of 'input_ids' and 'inputs_embeds' is needed"),
        ({"input_ids": torch.tensor([[VOCAB]])}, "'input_ids' must name tokens from 0 to 28"),
        ({"input_ids": torch.zeros(1, 40, dtype=torch.long)}, "'input_ids' must have at most max_seq_len=32 tokens"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.long), "use_cache": True}, "'use_cache' must be left out"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.long), "past_key_values": ()}, "'past_key_values' must be left"),
        (
            {"input_ids": torch.zeros(1, 2, dtype=torch.long), "position_ids": torch.ones(1, 2)},
            "'position_ids' must be",
        ),
    ],
)
def test_bad_input_names_the_argument(model, call, message):
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        model(**call)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "'hidden_size' must be an integer of at least 1"),
        ({"edge_heads": 3}, "'edge_size' must be a multiple of 'edge_heads'"),
        ({"edge_forms": ["cubic"]}, "'edge_forms' must be among"),
        ({"dropout": 1.0}, "'dropout' must lie in"),
    ],
)
def test_bad_options_name_the_argument(options, message):
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        tiny_config(**options)


def test_generation_refuses_a_cache(model, ids):
    with pytest.raises(ValueError, match="'use_cache' must be left out"):
        model.generate(ids, max_new_tokens=2, use_cache=True)
    with pytest.raises(ValueError, match=r"'inputs_embeds' cannot .* give 'input_ids' \(got embeddings\)"):
        model.generate(inputs_embeds=torch.zeros(1, 3, model.config.hidden_size))


def test_a_folder_loads_whatever_a_script_has_turned_on(model, ids, tmp_path):
    model.config.use_cache = True
    expected = model.generate(ids, max_new_tokens=2, do_sample=False)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert not loaded.config.use_cache
    assert torch.equal(loaded.generate(ids, max_new_tokens=2, do_sample=False), expected)


def test_states_between_the_layers(ids):
    model = stirred()
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    out = model(ids, attention_mask=mask, output_hidden_states=True)
    assert torch.equal(out.logits, model(ids, attention_mask=mask).logits)
    assert [tuple(state.shape) for state in out.hidden_states] == [(*ids.shape, 16)] * 3
    assert not any(state[1, :3].any() for state in out.hidden_states)
    transformer, place = model.transformer, mask.bool()
    position = (mask.cumsum(1) - 1).clamp(min=0)
    first = (transformer.embed_tokens(ids) + transformer.embed_positions(position)) * mask.unsqueeze(-1)
    torch.testing.assert_close(out.hidden_states[0], first)
    logits = transformer.lm_head(transformer.norm(out.hidden_states[-1]))
    torch.testing.assert_close(logits[place], out.logits[place])
