"""A model that processes share by parts (FSDP2) is trained as a whole one with the same batch."""

import os
import subprocess
import sys

import pytest
import torch

from tmt_geo.models import TMTModel
from tmt_geo.nn.tmt_layer import TMTLayer
from tmt_geo.testing.tiny import lively, tiny_config

SCRIPT = """
import json
import sys
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig
from tmt_geo.models import TMTModel

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
whole = TMTModel.from_pretrained(sys.argv[1]).train()
shared = TMTModel.from_pretrained(sys.argv[1], distributed_config=DistributedConfig(fsdp_size=size)).train()
assert all(isinstance(parameter, DTensor) for parameter in shared.parameters())
assert sum(parameter.to_local().numel() for parameter in shared.parameters()) < 0.6 * whole.num_parameters()
if sys.argv[2] == "random":
    ids = torch.randint(61, (4, 20), generator=torch.Generator().manual_seed(1))
else:  # each rank has a token of its own, and all nodes of the one leave where those of the other stay
    ids = torch.tensor([[3], [9]]).expand(2, 20).repeat(2, 1)
shares = []
optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (whole, shared)]
for _ in range(3):
    for model, batch, optimizer in zip((whole, shared), (ids, ids[rank::size]), optimizers, strict=True):
        optimizer.zero_grad()
        out = model(batch, labels=batch)
        out.loss.backward()
        optimizer.step()
    shares.append(out.active_share)
expected = dict(whole.named_parameters())
for name, parameter in shared.named_parameters():
    torch.testing.assert_close(parameter.full_tensor(), expected[name], rtol=0, atol=1e-6, msg=name)
for (name, buffer), expected in zip(shared.named_buffers(), whole.buffers(), strict=True):
    torch.testing.assert_close(buffer, expected, rtol=0, atol=1e-6, msg=name)
shared.eval().save_pretrained(sys.argv[1] + "-trained", is_main_process=rank == 0)
dist.barrier()
saved = TMTModel.from_pretrained(sys.argv[1] + "-trained").eval()
assert "distributed_config" not in saved.config.to_dict() or saved.config.distributed_config is None
for name, parameter in shared.named_parameters():
    assert torch.equal(parameter.full_tensor(), saved.get_parameter(name)), name
torch.testing.assert_close(saved(ids).logits, whole.eval()(ids).logits, rtol=0, atol=1e-4)
if sys.argv[2] != "random":
    here = torch.stack(shares) == 0
    there = here.clone().int()
    dist.all_reduce(there)
    alone = torch.tensor(int((here & (there == 1)).any()))  # a layer without a node on this rank alone
    dist.all_reduce(alone)
    assert alone, shares
dist.destroy_process_group()
"""


several = pytest.mark.skipif(
    os.environ.get("TMT_FULL_TEST") != "1", reason="starts several processes; set TMT_FULL_TEST=1 for it"
)


def run_on_two_ranks(tmp_path, model, *arguments):
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = [*launch, tmp_path / "script.py", tmp_path / "model", *arguments]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


@several
@pytest.mark.parametrize("tied", [True, False])
def test_a_sharded_model_learns_as_a_whole_one(tmp_path, tied):
    options = {"exit": False, "memory_anchors": 0, "tie_word_embeddings": tied}
    run_on_two_ranks(tmp_path, TMTModel(tiny_config(**options)), "random")


@several
def test_a_budget_of_exits_is_kept_by_parts(tmp_path):
    run_on_two_ranks(tmp_path, lively(TMTModel(tiny_config(exit_rule="budget", memory_anchors=0))), "random")


@several
def test_nodes_leave_a_sharded_model_as_they_leave_a_whole_one(tmp_path):
    """A rank whose nodes have all left still takes its part in the gradients of the layers that are left."""
    torch.manual_seed(0)
    model = lively(TMTModel(tiny_config(exit_rule="fixed")))
    tokens = torch.tensor([[3], [9]]).expand(2, 20)
    first = model.backbone.encoder.layers[0].gate
    low, high = first.lin(model(tokens, output_hidden_states=True).hidden_states[1]).mean(1).flatten().sort().values
    with torch.no_grad():  # between the two tokens
        first.lin.bias.sub_((low + high).item() / 2)
    model.config.exit_threshold = 0.5
    run_on_two_ranks(tmp_path, model, "a token a rank")


@pytest.mark.parametrize("mesh", [True, False])
def test_a_layer_without_nodes_can_give_every_weight_a_gradient(monkeypatch, mesh):
    """What ranks that share parameters wait for, and what one process leaves out."""
    model = lively(TMTModel(tiny_config(exit_rule="fixed", exit_threshold=0.0, mesh=mesh, memory_anchors=0))).train()
    ids = torch.arange(20).view(2, 10)
    grads = []
    for may_skip in (True, False):
        monkeypatch.setattr(TMTLayer, "_may_skip", lambda self, may_skip=may_skip: may_skip)
        model.zero_grad()
        out = model(ids, labels=ids)
        out.loss.backward()
        assert out.active_share.tolist() == [1, 0, 0]
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert any(grad is None for grad in grads[0].values())
    for name, grad in grads[1].items():
        expected = grads[0][name]
        torch.testing.assert_close(grad, torch.zeros_like(grad) if expected is None else expected, msg=name)


@pytest.mark.parametrize(
    ("options", "name"), [({"exit_rule": "learned"}, "exit_rule"), ({"exit": False, "copy_k": 2}, "copy_k")]
)
def test_what_cannot_be_sharded_is_refused(options, name):
    model = TMTModel(tiny_config(**options))
    with pytest.raises(ValueError, match=rf"^'{name}' must be .*\(got .*\)$"):
        type(model).maybe_distribute_model(model, None, None)
