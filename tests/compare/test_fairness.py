"""Equal conditions as a flow of data: what reaches training, how large the models are, how they are measured."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from transformers import TrainerCallback

from tmt_geo.compare import load_corpus
from tmt_geo.compare.language import LanguageRow, LanguageRun
from tmt_geo.compare.measure import measure_run
from tmt_geo.compare.models import build_model, full_params
from tmt_geo.compare.suites import PEERS, SUITES
from tmt_geo.models import TMTModel


class Keep(TrainerCallback):
    """The model as training has left it, and the loss of every step."""

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.model = copy.deepcopy(model)
        self.losses = [row["loss"] for row in state.log_history if "loss" in row]


@pytest.fixture
def measured(suite, tmp_path):
    """One row trained and measured: its model and its result."""

    def run(row, corpus, **recipe):
        keep, run.count = Keep(), getattr(run, "count", 0) + 1
        small = replace(suite, recipe=replace(suite.recipe, **recipe))
        result = measure_run(LanguageRun(small, row, 1), corpus, tmp_path / f"{run.count}", callbacks=[keep])
        return keep, result

    return run


def named(suite, name):
    return next(row for row in suite.rows if row.name == name)


@pytest.mark.parametrize("name", ["vanilla", "full"])
def test_the_text_of_validation_and_test_does_not_reach_the_weights(suite, measured, tmp_path, name):
    corpora = []
    for words in ("alpha beta gamma", "entirely other words, and many more of them 0123456789"):
        folder = tmp_path / words[:5]
        folder.mkdir()
        train = "\n".join(f"line {n % 13} says word{n % 7} and word{n % 5}" for n in range(120))
        (folder / "train.txt").write_text(train)
        for split, lines in (("valid", len(words) // 8), ("test", len(words) // 4)):
            (folder / f"{split}.txt").write_text("\n".join([f"{split} {words}"] * lines))
        corpora.append(load_corpus(str(folder), suite.recipe))
    one, other = corpora
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    assert one.blocks[:] == other.blocks[:] and one.digest != other.digest
    # With dropout, and looks at the validation split on the way: their chance and their states stay apart too.
    runs = [measured(named(suite, name), corpus, dropout=0.2, eval_every=2) for corpus in corpora]
    (first, first_result), (second, second_result) = runs
    assert first.losses == second.losses and len(set(first.losses)) > 1
    weights, others = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert first_result["valid_word_ppl"] != second_result["valid_word_ppl"]


def windows(tokens, context, stride):
    """Where each window ends, and the first target that it scores."""
    end, scored = min(context, len(tokens) - 1), 0
    while scored < len(tokens) - 1:
        yield end, scored
        scored, end = end, min(end + stride, len(tokens) - 1)


@pytest.mark.parametrize("stride", [5, 11, 16])
def test_the_stride_of_the_recipe_is_that_of_the_measurement(suite, measured, corpus, stride):
    """Every target by hand: from the window that first reaches it, at the stride of the recipe."""
    keep, result = measured(named(suite, "vanilla"), corpus, stride=stride, dropout=0.1)
    model, context = keep.model.eval(), suite.recipe.block_size
    for split in ("valid", "test"):
        tokens = torch.cat([torch.tensor([corpus.tokenizer.eos_token_id]), corpus.streams[split]])
        nll = 0.0
        for end, scored in windows(tokens, context, stride):
            with torch.no_grad():
                chances = model(tokens[end - context : end].unsqueeze(0)).logits[0].double().log_softmax(-1)
            for target in range(scored, end):
                nll -= float(chances[target - end, tokens[target + 1]])
        words = {"valid": 12, "test": 15}[split] * 8  # lines of seven words, and their ends
        assert result[f"{split}_word_ppl"] == pytest.approx(math.exp(nll / words), rel=1e-5)
        assert result[f"{split}_token_ppl"] == pytest.approx(math.exp(nll / len(corpus.streams[split])), rel=1e-5)


def test_the_stride_of_the_recipe_is_that_of_the_exit_profile(suite, measured, corpus):
    keep, result = measured(named(suite, "full"), corpus, stride=3, steps=12)
    model, context, tokens = keep.model.eval(), suite.recipe.block_size, corpus.streams["test"]
    frozen = torch.zeros(suite.recipe.n_layers)
    for end, first in windows(torch.cat([tokens, tokens[:1]]), context, 3):
        with torch.no_grad():
            masks = model(tokens[end - context : end].unsqueeze(0)).exit_masks[:, 0]
        frozen += masks[:, first - end :].sum(1)
    share = (frozen / len(tokens)).tolist()
    assert 0 < share[1] < 1
    assert result["exit_profile"]["all"]["frozen"] == pytest.approx(share, abs=1e-6)


# Equal sizes. A step is the parameters that one more unit of width has.

WIDTHS = {"gpt2": "n_inner", "mamba": "state_size", "mamba2": "state_size"}
UNITS = {"mixtral": 4}  # the width of experts is a multiple of four


def wider(model, row, units):
    """Parameters of the same model with so many more units of width."""
    if row.family == "tmt":
        config = copy.deepcopy(model.config)
        name = "ffn_stream_dim" if config.dual_stream else "intermediate_size"
    else:
        model = getattr(model, "model", model) if "copy_k" in row.options else model
        config = copy.deepcopy(model.config)
        name = WIDTHS.get(row.family, "intermediate_size")
    setattr(config, name, getattr(config, name) + units * UNITS.get(row.family, 1))
    with torch.device("meta"):
        return type(model)(config).num_parameters()


def assert_within_half_a_step(suite, row):
    model, wanted = build_model(LanguageRun(suite, row, 42)), full_params(suite, suite.recipe_of(row))
    step = wider(model, row, 1) - wider(model, row, 0)
    assert step > 0
    assert abs(model.num_parameters() - wanted) <= step / 2, row.name


TINY = [pytest.param(suite, row, id=f"{suite.name}-{row.name}") for suite in SUITES.values() for row in suite.rows
        if row.matched and suite.recipe_of(row).d_model <= 128 and row.family in ("tmt", "llama")]  # fmt: skip


@pytest.mark.parametrize(("suite", "row"), TINY)
def test_our_models_and_llama_with_our_head_and_without_are_within_half_a_step_of_the_budget(suite, row):
    assert_within_half_a_step(suite, row)


OTHERS = [row for row in PEERS.rows if row.family not in ("tmt", "llama")]


@pytest.mark.parametrize("row", OTHERS, ids=[row.name for row in OTHERS])
def test_peers_are_within_half_a_step_of_the_budget(row):
    small = replace(PEERS.recipe, d_model=64, n_layers=4, n_heads=2, vocab_size=2000, block_size=32)
    assert_within_half_a_step(replace(PEERS, recipe=small), row)


@pytest.mark.parametrize("family", ["tmt", "llama"])
def test_rows_without_the_sentinel_are_of_before_it(suite, family):
    head = {"copy_k": 4, "copy_dim": 8, "copy_memory": 16}
    for named, sentinel in (({}, False), ({"copy_sentinel": True}, True)):
        row = LanguageRow("copying", family=family, options=head | named)
        assert build_model(LanguageRun(suite, row, 0)).copy_head.sentinel == sentinel


def test_a_copy_head_is_part_of_the_budget(suite):
    """All that the head adds, the model within has less."""
    head = {"copy_k": 4, "copy_dim": 8, "copy_memory": 16}
    plain, copying = (
        build_model(LanguageRun(suite, LanguageRow("llama", family="llama", options=o), 1)) for o in ({}, head)
    )
    added = sum(p.numel() for name, p in copying.named_parameters() if name.startswith("copy_head"))
    d, n = suite.recipe.d_model, suite.recipe.n_layers
    assert added == 8 * d + d + 1 + 1
    assert plain.num_parameters() - copying.model.num_parameters() == 3 * d * n * round(added / (3 * d * n))
    assert not isinstance(plain, TMTModel)
