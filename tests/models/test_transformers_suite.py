"""The tests that transformers has for its own models, on ours.

Its source distribution carries them: ``TMT_GEO_TRANSFORMERS_TESTS`` names the folder ``tests`` of the one that is
installed. The two mixins that they import and that it lacks, of generation and of exporters, are empty here.
"""

import os
import sys
import types
import unittest
from importlib import import_module
from unittest.mock import patch

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tmt_geo import QuarticConfig, QuarticModel, TMTBackbone, TMTForCausalLM
from tmt_geo.testing.tiny import tiny_config

FOLDER = os.environ.get("TMT_GEO_TRANSFORMERS_TESTS")
if not FOLDER:
    pytest.skip("TMT_GEO_TRANSFORMERS_TESTS names no folder", allow_module_level=True)
pytest.importorskip("parameterized")
PACKAGE = "tests_of_transformers"


def their(name):
    """A module of that folder, as of a package."""
    lacking = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}
    for path, mixin in {"": None, "exporters": None, "generation": None, **lacking}.items():
        module = types.ModuleType(f"{PACKAGE}.{path}".removesuffix("."))
        module.__path__ = [] if path else [FOLDER]
        if mixin:
            setattr(module, mixin, type(mixin, (), {}))
        sys.modules.setdefault(module.__name__, module)
    return import_module(f"{PACKAGE}.{name}")


common = their("test_modeling_common")
GenerationTesterMixin = sys.modules[f"{PACKAGE}.generation.test_utils"].GenerationTesterMixin


class ModelTester:
    """What those tests ask for a model and its input."""

    batch_size = 3
    seq_length = 7
    is_training = True
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4

    def __init__(self, make_config):
        self.get_config = make_config

    def prepare_config_and_inputs_for_common(self):
        ids = torch.randint(3, 61, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class SubtractsMasks(TorchFunctionMode):
    """Lets a mask be subtracted from another, as the message of one of those tests does before anything has failed."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("sub", "__sub__") and all(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in args[:2]
        ):
            args = [part.float() for part in args]
        return function(*args, **kwargs or {})


class Suite(common.ModelTesterMixin, GenerationTesterMixin):
    has_attentions = False  # the edges of a mesh are no matrix of all pairs
    test_can_init_all_missing_weights_before_2023 = True  # a file without a date counts as old, and would be skipped

    def setUp(self):
        self.model_tester = ModelTester(self.make_config)
        heads = {"tmt": "TMTForCausalLM", "quartic": "QuarticModel"}
        self.enterContext(patch.dict(common.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, heads))
        self.enterContext(patch.dict(common.MODEL_MAPPING_NAMES, {"tmt": "TMTBackbone"}))

    def test_model_outputs_equivalence(self):
        with SubtractsMasks():
            super().test_model_outputs_equivalence()

    def test_init_weights_can_init_buffers(self):
        # Anchors are drawn: with draws that are all alike it shows whether they are drawn again.
        with patch.object(torch.Tensor, "normal_", lambda tensor, mean=0.0, std=1.0, **_: tensor.fill_(mean + std)):
            super().test_init_weights_can_init_buffers()


class TestTMT(Suite, unittest.TestCase):
    all_model_classes = (TMTBackbone, TMTForCausalLM)

    @staticmethod
    def make_config():
        return tiny_config(n_layers=2)


class TestQuartic(Suite, unittest.TestCase):
    all_model_classes = (QuarticModel,)

    @staticmethod
    def make_config():
        sizes = {"dim_head": 8, "dim_edges": 8, "linear_heads": 2, "linear_dim_head": 4, "edge_heads": 2}
        return QuarticConfig(num_tokens=61, dim=32, depth=2, heads=4, max_seq_len=64, **sizes)
