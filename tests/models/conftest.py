import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config


@pytest.fixture
def ids():
    return torch.randint(VOCAB, (3, 20))


@pytest.fixture
def model():
    return lively(TMTModel(tiny_config()))
