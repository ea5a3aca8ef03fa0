"""Looking at a model while it is trained changes nothing, and is done without dropout."""

import pytest
import torch

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import TraceCallback, train_model


@pytest.fixture
def dropping():
    """A model with dropout everywhere, anchors and gates."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 12, "graph_k": 2}
    return lambda: TMTModel(TMTConfig(**sizes, window=2, memory_anchors=3, dropout=0.4, exit_budget=0.6))


@pytest.mark.parametrize("watched", ["evaluated", "passage"])
def test_a_run_that_is_looked_at_ends_in_the_same_weights(tmp_path, dropping, blocks, options, watched):
    torch.manual_seed(0)
    plain = dropping()
    looked_at = dropping()
    looked_at.load_state_dict(plain.state_dict())
    train_model(plain, None, blocks(10), None, options(out=tmp_path / "plain"))
    looks = {"evaluated": (blocks(3), {"eval_every": 1}, []), "passage": (None, {}, [TraceCallback([1, 2, 3], 6)])}
    valid, change, callbacks = looks[watched]
    train_model(looked_at, None, blocks(10), valid, options(**change), callbacks=callbacks)
    for name, value in plain.state_dict().items():
        assert torch.equal(looked_at.state_dict()[name], value), name


def test_the_validation_loss_is_without_dropout(dropping, blocks, options):
    model, valid = dropping(), blocks(5)
    history = train_model(model, None, blocks(10), valid, options()).history
    ids = torch.tensor([row["input_ids"] for row in valid])
    assert model.config.dropout > 0
    with torch.no_grad():
        logits = model.eval()(ids).logits.double()
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert history[-1]["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_part_that_was_left_out_of_training_stays_so_when_a_passage_is_read(dropping):
    model = dropping().train()
    model.backbone.encoder.layers[1].eval()
    modes = [module.training for module in model.modules()]
    state = type("State", (), {"global_step": 0, "max_steps": 2, "is_world_process_zero": True})()
    trace = TraceCallback([1, 2, 3], 2)
    trace.on_train_begin(None, state, None)
    trace.on_step_begin(None, state, None, model=model)
    assert trace.graphs.keys() == {0}
    assert [module.training for module in model.modules()] == modes
