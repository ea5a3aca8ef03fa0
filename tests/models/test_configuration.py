import json

import pytest
import torch

from tmt_geo import TMTConfig, TMTModel
from tmt_geo.models.tmt.configuration_tmt import PRESETS
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


def test_published_and_hugging_face_names_are_one():
    config = TMTConfig(vocab_size=100, d_model=64, n_heads=4, n_layers=2, max_seq_len=128)
    assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (64, 2, 128)
    assert config.d_model == 64 and config.n_heads == config.num_attention_heads == 4
    assert TMTConfig(hidden_size=64).d_model == 64


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    config = TMTConfig.from_preset(name, vocab_size=11, d_model=128)
    assert config.vocab_size == 11 and config.hidden_size == 128


def test_the_published_preset_is_the_published_formulas():
    config = TMTConfig.from_preset("published")
    assert (config.hidden_size, config.num_hidden_layers, config.graph_k, config.ffn_stream_dim) == (512, 12, 8, 256)
    assert config.decay == "published" and config.gate_rule == "fixed" and config.exit_threshold == 0.85
    assert not config.window and not config.shift and config.memory_anchors == 16


def test_anchors_are_off_unless_asked_for():
    assert TMTConfig().memory_anchors == 0
    assert all(TMTConfig.from_preset(name).memory_anchors == 0 for name in PRESETS if name != "published")


@pytest.mark.parametrize(("index_dim", "searched"), [(64, 64), (128, None), (1000, None), (None, None)])
def test_the_index_has_no_more_channels_than_the_states(index_dim, searched):
    config = TMTConfig(vocab_size=VOCAB, d_model=128, n_heads=4, n_layers=2, index_dim=index_dim)
    layer = TMTModel(config).backbone.encoder.layers[0]
    assert config.index_channels == searched
    assert layer.features(torch.randn(5, 128)).size(1) == (searched or 128)


def test_a_model_saved_before_the_index_searches_its_states(tmp_path):
    old = lively(TMTModel(tiny_config(d_model=80, index_dim=None)))
    old.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    ids = torch.randint(VOCAB, (2, 30))
    for written in (saved, {name: value for name, value in saved.items() if name != "index_dim"}):
        (tmp_path / "config.json").write_text(json.dumps(written))
        assert torch.equal(TMTModel.from_pretrained(tmp_path).eval()(ids).logits, old(ids).logits)
    assert TMTConfig(d_model=80).index_channels == 64 and TMTConfig.from_preset("published").index_channels is None


def test_a_threshold_means_the_fixed_rule():
    assert TMTConfig().gate_rule == "budget"
    assert TMTConfig(exit_threshold=0.0).gate_rule == "fixed"
    assert TMTConfig(exit_threshold=0.9, exit_rule="learned").gate_rule == "learned"
    assert TMTConfig(exit=False, exit_threshold=0.5).gate_rule is None


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("'d_model'", {"d_model": 100, "n_heads": 8}),
        ("'d_model'", {"d_model": 12, "n_heads": 4}),
        ("'graph_k'", {"graph_k": 0}),
        ("'graph_k'", {"graph_k": 1.5}),
        ("'window'", {"window": -1}),
        ("'kv_heads'", {"kv_heads": 3}),
        ("'index_dim'", {"index_dim": 0}),
        ("'index_dim'", {"index_dim": 4.5}),
        ("'rebuild_every'", {"rebuild_every": 0}),
        ("'search'", {"search": "torch_cluster"}),
        ("'decay'", {"decay": "slow"}),
        ("'decay_rate'", {"decay_rate": 0}),
        ("'exit_rule'", {"exit_rule": "never"}),
        ("'exit_rule'", {"exit": False, "exit_rule": "never"}),
        ("'exit_after'", {"exit": False, "exit_after": 0}),
        ("'exit_budget'", {"exit_budget": 0.01}),
        ("'exit_budget'", {"exit_budget": 0.5, "exit_after": 7, "n_layers": 12}),
        ("'exit_after'", {"exit_after": 0}),
        ("'exit_after'", {"exit_after": 3, "n_layers": 2}),
        ("'exit_momentum'", {"exit_momentum": 1.0}),
        ("'memory_anchors'", {"memory_anchors": -1}),
        ("'memory_momentum'", {"memory_momentum": 2}),
        ("'dropout'", {"dropout": 1.0}),
        ("'vocab_size'", {"vocab_size": 0}),
        ("'ffn_stream_dim'", {"ffn_stream_dim": 0}),
    ],
)
def test_bad_values_name_the_argument(argument, options):
    with pytest.raises(ValueError, match=argument):
        TMTConfig(**options)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="'preset' must be one of .*base.*got 'huge'"):
        TMTConfig.from_preset("huge")


def test_the_momentum_of_the_gates_reaches_them():
    model = TMTModel(tiny_config(exit_momentum=0.5))
    assert {layer.gate.momentum for layer in model.backbone.encoder.layers if layer.gate is not None} == {0.5}


def test_a_model_saved_before_an_option_existed_computes_what_it_did(tmp_path):
    old = TMTModel(tiny_config(content_mesh=False, gated_heads=False, gated_streams=False)).eval()
    old.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    for option in ("content_mesh", "gated_heads", "gated_streams", "mesh_memory"):
        del saved[option]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    ids = torch.randint(VOCAB, (2, 30))
    assert torch.equal(TMTModel.from_pretrained(tmp_path).eval()(ids).logits, old(ids).logits)
    assert TMTConfig.from_pretrained(tmp_path, content_mesh=True).content_mesh
    assert TMTConfig.from_dict({"vocab_size": VOCAB}).content_mesh  # written by hand


def test_a_copy_head_saved_before_the_sentinel_copies_as_it_did(tmp_path):
    old, new = (lively(TMTModel(tiny_config(copy_k=3, copy_sentinel=sentinel))) for sentinel in (False, True))
    old.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["copy_sentinel"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    ids = torch.randint(VOCAB, (2, 30))
    again = TMTModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(ids).logits, old(ids).logits)
    new.load_state_dict(old.state_dict())
    assert (new(ids).logits - old(ids).logits).abs().max() > 0.01
    assert TMTConfig().copy_sentinel and TMTConfig.from_preset("published").copy_k == 0


@pytest.mark.parametrize("sizes", [{"d_model": 64, "hidden_size": 128}, {"num_hidden_layers": 4, "n_layers": 2}])
def test_two_names_of_one_option_may_not_disagree(sizes):
    with pytest.raises(ValueError, match=r"'(d_model|n_layers)' and '.*' are one option \(got \d+ and \d+\)"):
        TMTConfig(**sizes)


def test_two_names_of_one_option_may_agree():
    assert TMTConfig(d_model=64, hidden_size=64).d_model == 64
