import os
import random
from pathlib import Path

# Before torch and the hub libraries are imported: no test reaches the network, and parallel workers, with the
# processes they start, share the cores. Models this small are slower on several threads than on one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch.overrides import TorchFunctionMode

REPOSITORY = Path(__file__).parents[1]
DEVICE = os.environ.get("TMT_GEO_TEST_DEVICE")  # where tensors are made whose test names no device, such as "cuda"

torch.set_num_threads(1)
# How long an example takes says how busy the machine is. The same hundred examples a property in every run; set
# TMT_FULL_TEST=1 for two thousand new ones.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", settings.get_profile("unhurried"), max_examples=100, derandomize=True)
settings.register_profile("long", settings.get_profile("unhurried"), max_examples=2000, print_blob=True)
settings.load_profile("long" if os.environ.get("TMT_FULL_TEST") == "1" else "short")


class FromGenerators(TorchFunctionMode):
    """Lets the default device have random numbers of a generator elsewhere: they are drawn there and moved."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = {} if kwargs is None else kwargs
        place = getattr(kwargs.get("generator"), "device", None)
        if function not in (torch.rand, torch.randn, torch.randint, torch.randperm) or place is None:
            return function(*args, **kwargs)
        device = kwargs.pop("device", None) or DEVICE
        return function(*args, **kwargs, device=place).to(device)


if DEVICE:
    torch.set_default_device(DEVICE)
    FromGenerators().__enter__()


@pytest.fixture(autouse=True)
def seed():
    random.seed(42)
    np.random.seed(42)
    torch.manual_seed(42)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = Path(os.environ.get("TMT_GEO_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the public data is absent: no folder {folder} (set TMT_GEO_DATA)")
    return folder


@pytest.fixture(scope="session")
def wikitext2(data_folder) -> Path:
    folder = data_folder / "wikitext-2"
    if not (folder / "test.txt").is_file():
        pytest.skip(f"WikiText-2 is absent: no file {folder / 'test.txt'}")
    return folder
