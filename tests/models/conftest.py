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
