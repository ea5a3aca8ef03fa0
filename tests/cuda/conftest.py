"""Every test here runs on the CPU, and again on a GPU where there is one."""

import pytest
import torch


@pytest.fixture(params=["cpu", "cuda"], ids=["cpu", "gpu"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request):
    return request.param
