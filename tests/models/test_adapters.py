"""What other libraries do to the language model: low-rank adapters, quantised weights, their trainers."""

import warnings

import pytest
import torch
from torch import nn

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

PROJECTIONS = ["lin_query", "lin_key", "lin_value"]
EVERYTHING = {"index_dim": 8, "copy_k": 4, "num_key_value_heads": 2}


def adapted(peft, model, target):
    config = peft.LoraConfig(target_modules=target, r=4, init_lora_weights=False)  # adapters that change something
    return peft.get_peft_model(model, config)


def reached(model):
    return {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "lora_A")}


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"exit_rule": "learned"}, {"mesh": False}], ids=str)
@pytest.mark.parametrize("target", [PROJECTIONS, "all-linear"], ids=["projections", "all-linear"])
def test_low_rank_adapters(target, options):
    peft = pytest.importorskip("peft")
    model, ids = lively(TMTModel(tiny_config(**options))), torch.randint(VOCAB, (3, 40))
    with torch.no_grad():
        before = model(ids).logits
        model = adapted(peft, model, target)
        assert reached(model) >= set(PROJECTIONS)
        if target == "all-linear":
            assert reached(model) >= {"lin_out", "lin_in", "lin_gate", "lin"} and "lm_head" not in reached(model)
    model.train()(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        out = model.eval()(input_ids=ids)
        assert (out.logits - before).abs().max() > 0.1
        generated = model.generate(input_ids=ids[:, :5], max_new_tokens=4, do_sample=False)
        merged = model.merge_and_unload()
        assert type(merged) is TMTModel and type(merged.backbone.encoder.layers[0].attention.lin_query) is nn.Linear
        again = merged(ids)
        assert torch.equal(again.exit_masks, out.exit_masks)
        torch.testing.assert_close(again.logits, out.logits, rtol=1e-4, atol=1e-4)
        assert torch.equal(merged.generate(ids[:, :5], max_new_tokens=4, do_sample=False), generated)


def test_a_saved_adapter_with_gates_and_anchors_is_the_model_that_was_trained(tmp_path):
    peft = pytest.importorskip("peft")
    model, ids = lively(TMTModel(tiny_config())), torch.randint(VOCAB, (3, 40))
    fresh = TMTModel(tiny_config())
    fresh.load_state_dict(model.state_dict())
    moving = [name for name in ("gate", "memory") if getattr(model.backbone.encoder.layers[0], name) is not None]
    assert moving == ["gate", "memory"]
    config = peft.LoraConfig(target_modules=PROJECTIONS, modules_to_save=moving, r=4, init_lora_weights=False)
    model = peft.get_peft_model(model, config)
    for _ in range(3):
        model.train()(input_ids=ids, labels=ids)  # thresholds and anchors move
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path)
    out, expected = again.eval()(input_ids=ids), model.eval()(input_ids=ids)
    assert torch.equal(out.logits, expected.logits) and torch.equal(out.exit_masks, expected.exit_masks)


HEADS = {"adapters": ([*PROJECTIONS, "lm_head"], None), "whole": (PROJECTIONS, ["lm_head"])}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False}, {"copy_k": 4}], ids=str)
def test_a_saved_adapter_of_attention_and_head_is_the_model_that_was_trained(head, options, tmp_path):
    peft = pytest.importorskip("peft")
    model, ids = lively(TMTModel(tiny_config(**options))), torch.randint(VOCAB, (3, 20))
    fresh, before = TMTModel(model.config), model(ids).logits
    fresh.load_state_dict(model.state_dict())
    target, whole = HEADS[head]
    config = peft.LoraConfig(target_modules=target, modules_to_save=whole, r=4, task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model.eval()(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any("lm_head" in name for name in trained) and any("lin_query" in name for name in trained)
    expected = model(input_ids=ids).logits
    assert (expected - before).abs().max() > 0.1
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert torch.equal(again(input_ids=ids).logits, expected)


def test_adapters_add_what_their_formula_says():
    """Twice as many nodes as columns and more: where nothing stands in the way, the projections are one product."""
    peft = pytest.importorskip("peft")
    plain, ids = lively(TMTModel(tiny_config())), torch.randint(VOCAB, (8, 40))
    weights = {name: value.clone() for name, value in plain.state_dict().items()}
    model = adapted(peft, plain, PROJECTIONS).eval()
    for name, module in model.get_base_model().named_modules():
        if hasattr(module, "lora_A"):
            product = module.lora_B["default"].weight @ module.lora_A["default"].weight
            weights[f"{name}.weight"] += 8 / 4 * product.detach()  # alpha over rank
    twin = TMTModel(tiny_config()).eval()
    twin.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, twin(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"exit_rule": "learned"}, {"exit_threshold": 0.3}], ids=str)
def test_dynamic_quantisation(options):
    model, ids = lively(TMTModel(tiny_config(**options))), torch.randint(VOCAB, (3, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is to move it to a library of its own
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    for layer in small.backbone.encoder.layers:
        for name in PROJECTIONS:
            assert type(getattr(layer.attention, name)).__module__.startswith("torch.ao.nn.quantized")
    with torch.no_grad():
        expected, out = model(ids), small(ids)
        assert small.generate(ids, max_new_tokens=3).shape == (3, 43)
    assert (out.logits - expected.logits).abs().mean() < 0.2 * expected.logits.std()
    assert (out.active_share - expected.active_share).abs().max() < 0.1


def test_the_base_model_is_the_model_without_its_head():
    model, ids = lively(TMTModel(tiny_config())), torch.randint(VOCAB, (2, 12))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    out, base = model(ids, mask, output_hidden_states=True), model.base_model
    states = base(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(states @ model.lm_head.weight.t(), out.logits)
    scale, shift = base.encoder.norm.weight, base.encoder.norm.bias
    norm = nn.functional.layer_norm(out.hidden_states[-1], (32,), scale, shift)
    torch.testing.assert_close(states, norm * mask.unsqueeze(2))
    assert {id(p) for p in base.parameters()} == {id(p) for p in model.parameters()}  # the head is tied
    assert base.config is model.config and not base.training
    model.train()
    assert model.base_model.training


@pytest.mark.parametrize("options", [{"copy_k": 4}, {"exit_rule": "learned"}, {"exit_threshold": 0.3}], ids=str)
def test_the_base_model_refuses_to_train_without_what_the_model_adds(options):
    model, ids = TMTModel(tiny_config(**options)).train(), torch.randint(VOCAB, (2, 12))
    with pytest.raises(ValueError, match=r"the model's own loss \(got "):
        model.base_model(ids)
    if "copy_k" not in options:
        assert model.eval().base_model(ids).last_hidden_state.shape == (2, 12, 32)


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [f"w{i}" for i in range(VOCAB - 3)] + ["<unk>", "<pad>", "<eos>"]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapters"])
def test_trains_in_the_trainer_of_trl(tokenizer, adapter, tmp_path):
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    peft = pytest.importorskip("peft")
    texts = [" ".join(f"w{i}" for i in torch.randint(VOCAB - 3, (8 + n,))) for n in range(4)]
    model = TMTModel(tiny_config())
    arguments = trl.SFTConfig(
        str(tmp_path), max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1, report_to=[],
        use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True, lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model, arguments, train_dataset=datasets.Dataset.from_dict({"text": texts}), processing_class=tokenizer,
        peft_config=peft.LoraConfig(target_modules=PROJECTIONS, r=2) if adapter else None,
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        expected = model.eval()(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(expected.item(), abs=2e-3) and losses[-1] < losses[0]
    still = {name for name, p in trainer.model.named_parameters() if p.requires_grad and torch.equal(p, before[name])}
    assert all(name.endswith("gate.lin.bias") for name in still)  # a quantile takes back what a bias would do
    assert adapter == all("lora" in name for name in before)
