"""``torch.export`` of the language model: one program for all batches and lengths, equal to the model."""

import io
import logging
import warnings

import pytest
import torch
from torch.export import Dim, export

from tmt_geo.models import TMTBackbone, TMTModel
from tmt_geo.nn.copy_head import CopyMemory
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

DYNAMIC = {0: Dim("batch"), 1: Dim("sequence")}
# Shorter than the neighbors are many, longer than the model was trained for, and one token alone.
SIZES = [(1, 1), (5, 2), (3, 40), (2, 70)]
EXACT = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def quiet():
    """No record of what the exporter does, which pytest would keep and which takes longer than the export."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def inputs(rows, columns, padded=False):
    generator = torch.Generator().manual_seed(rows * columns)
    given = {"input_ids": torch.randint(VOCAB, (rows, columns), generator=generator)}
    if padded:
        mask = torch.ones_like(given["input_ids"])
        mask[0, : columns // 3] = 0
        mask[-1, columns - columns // 4 :] = 0
        given["attention_mask"] = mask
    return given


def model_of(dtype=torch.float64, **options):
    model = lively(TMTModel(tiny_config(**{"n_layers": 2, "exit_budget": 0.75} | options)).to(dtype))
    for module in model.modules():
        if isinstance(module, ExitGate) and module.rule != "budget":
            torch.nn.init.zeros_(module.lin.bias)  # some nodes leave
    return model


def exported(model, given, **dynamic):
    shapes = dict.fromkeys(given, DYNAMIC) | dynamic
    return export(model, (), given, dynamic_shapes=shapes, strict=False)


def assert_equal(found, expected, dtype):
    """Whatever the model returns but the cache, which an export is without."""
    for name, part in expected.items():
        if isinstance(part, torch.Tensor):
            torch.testing.assert_close(found[name], part, rtol=0, atol=EXACT[dtype], msg=lambda m, n=name: f"{n}: {m}")
    if expected.graph_edges is not None:
        for one, other in zip(found["graph_edges"], expected.graph_edges, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "padded", "dtype"),
    [
        ({"exit": False}, False, torch.float64),
        ({"exit_rule": "budget", "copy_k": 3}, False, torch.float32),
        ({"exit_rule": "fixed", "exit_threshold": 0.5, "copy_k": 3, "index_dim": 8}, True, torch.float64),
        ({"exit_rule": "learned", "mesh": False, "kv_heads": 2}, True, torch.float64),
    ],
    ids=["plain", "budget, copy head", "fixed, copy head, padded", "learned, dense, padded"],
)
def test_an_exported_program_is_the_model_at_every_size(options, padded, dtype):
    model = model_of(dtype, **options)
    run = exported(model, inputs(2, 11, padded)).module()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of a sequence longer than those of training
        for size in SIZES:
            given = inputs(*size, padded)
            expected = model(**given, use_cache=False)
            assert_equal(run(**given), expected, dtype)
    if model.config.exit:
        assert 0 < expected.exit_masks.sum() < expected.exit_masks[1:].numel()


def test_a_program_is_saved_with_the_memory_of_its_copy_head():
    model, file = model_of(n_layers=1, exit=False, copy_k=3), io.BytesIO()

    def given(rows, columns, past):
        z = torch.nn.functional.normalize(torch.randn(rows, past, model.config.copy_dim).double(), dim=-1)
        return inputs(rows, columns) | {"copy_memory": CopyMemory(z, torch.randint(VOCAB, (rows, past)))}

    past = {0: DYNAMIC[0], 1: Dim("past", max=model.config.copy_memory)}
    torch.export.save(exported(model, given(2, 11, 7), copy_memory=CopyMemory(past, past)), file)
    file.seek(0)
    run, inside = torch.export.load(file).module(), given(3, 5, 30)
    found, expected = run(**inside), model(**inside, use_cache=False)
    assert_equal(found, expected, torch.float64)
    assert torch.equal(found["copy_memory"].token, expected.copy_memory.token)


def test_the_backbone_is_exported_with_its_hidden_states():
    model = TMTBackbone(tiny_config(n_layers=1, exit=False)).double().eval()
    options = {"output_hidden_states": True}
    run = exported(model, inputs(2, 11) | options, output_hidden_states=None).module()
    given = inputs(3, 30) | options
    for found, expected in zip(run(**given)["hidden_states"], model(**given).hidden_states, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, {"use_cache": True}, "'use_cache' must be False in an export"),
        ({"search": "windows"}, {}, "'backend' must be exact in an export"),
    ],
)
def test_what_cannot_be_exported_is_refused(options, given, message):
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)"):
        exported(model_of(**options), inputs(2, 11) | given, **dict.fromkeys(given))


def test_a_model_in_training_is_not_exported():
    with pytest.raises(ValueError, match=r"evaluation mode.*\(got training=True\)"):
        exported(model_of().train(), inputs(2, 11))


def test_a_batch_of_nodes_is_not_exported():
    nodes = {0: Dim("nodes")}
    given = {"input_ids": torch.arange(11), "batch": torch.arange(11) // 6}
    with pytest.raises(ValueError, match="'batch' must be None in an export"):
        exported(model_of(), given, input_ids=nodes, batch=nodes)
