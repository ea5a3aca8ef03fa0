"""A model that processes share by parts (FSDP2) is trained as a whole one with the same batch."""

import os
import subprocess
import sys

import pytest

from tmt_geo.models import TMTModel
from tmt_geo.testing.tiny import tiny_config

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
ids = torch.randint(61, (4, 20), generator=torch.Generator().manual_seed(1))
optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (whole, shared)]
for _ in range(3):
    for model, batch, optimizer in zip((whole, shared), (ids, ids[rank::size]), optimizers, strict=True):
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()
expected = dict(whole.named_parameters())
for name, parameter in shared.named_parameters():
    torch.testing.assert_close(parameter.full_tensor(), expected[name], rtol=0, atol=1e-6, msg=name)
dist.destroy_process_group()
"""


@pytest.mark.skipif(
    os.environ.get("TMT_FULL_TEST") != "1", reason="starts several processes; set TMT_FULL_TEST=1 for it"
)
@pytest.mark.parametrize("tied", [True, False])
def test_a_sharded_model_learns_as_a_whole_one(tmp_path, tied):
    options = {"exit": False, "memory_anchors": 0, "tie_word_embeddings": tied}
    TMTModel(tiny_config(**options)).save_pretrained(tmp_path / "model")
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = [*launch, tmp_path / "script.py", tmp_path / "model"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(("options", "name"), [({}, "exit"), ({"exit": False, "copy_k": 2}, "copy_k")])
def test_what_cannot_be_sharded_is_refused(options, name):
    model = TMTModel(tiny_config(**options))
    with pytest.raises(ValueError, match=rf"^'{name}' must be .*\(got .*\)$"):
        type(model).maybe_distribute_model(model, None, None)
