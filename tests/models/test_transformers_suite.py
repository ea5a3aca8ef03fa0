"""The tests that transformers has for its own models, on ours.

Its source distribution carries them: ``TMT_GEO_TRANSFORMERS_TESTS`` names the folder ``tests`` of the one that is
installed. The two mixins that they import and that it lacks, of generation and of exporters, are empty here.
"""

import os
import sys
import types
import unittest
from importlib import import_module

import pytest
import torch

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


class Suite(common.ModelTesterMixin, GenerationTesterMixin):
    has_attentions = False  # the edges of a mesh are no matrix of all pairs
    test_resize_embeddings = True

    def setUp(self):
        self.model_tester = ModelTester(self.make_config)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class.can_generate():
            inputs["labels"] = inputs["input_ids"].clone()
        return inputs


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
