import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture
def ids():
    return torch.randint(1, VOCAB, (3, 20))  # without the padding that generation takes out


@pytest.fixture
def model():
    return lively(TMTModel(tiny_config()))


# Of the tests of transformers, which test_transformers_suite.py runs.
MARKERS = (
    "slow",
    "accelerate_tests",
    "torch_compile_test",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
)


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", f"{marker}: of the tests of transformers")
