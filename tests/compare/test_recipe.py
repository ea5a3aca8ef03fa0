"""Every field of a recipe decides something, and a row's own recipe goes before that of its suite."""

import copy
from dataclasses import asdict, fields, replace

import pytest
import torch
from transformers import TrainerCallback

from tmt_geo.compare import Recipe, load_corpus
from tmt_geo.compare.language import LanguageRow, LanguageRun, LanguageSuite
from tmt_geo.compare.measure import measure_run
from tmt_geo.data import byte_count, word_count
from tmt_geo.train.muon import MuonWithAdamW

# Of each field another value than its default, and than that of any other field.
OTHER = Recipe(
    d_model=24, n_layers=3, n_heads=2, vocab_size=310, block_size=20, batch_size=5, steps=4, learning_rate=3e-3,
    weight_decay=0.03, warmup=0.5, dropout=0.15, stride=7, eval_every=2, save_every=3,
    shuffle=True, valid_tokens=90, optimizer="muon", ema_decay=0.5,
)  # fmt: skip

SMALL = {"memory_anchors": 2}


class Recorder(TrainerCallback):
    """The options and batches of the Trainer."""

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs):
        self.arguments, self.model = args, model
        self.batch = next(iter(train_dataloader))["input_ids"]

    def on_step_end(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        self.rates = [*getattr(self, "rates", []), optimizer.param_groups[0]["lr"]]
        self.decays = {group["weight_decay"] for group in optimizer.param_groups}
        self.optimizer = getattr(optimizer, "optimizer", optimizer)


@pytest.fixture(scope="module")
def other_corpus(text_of):
    return load_corpus(text_of(train=200, valid=20, test=25), OTHER)


def test_no_field_is_at_its_default():
    assert all(getattr(OTHER, field.name) != field.default for field in fields(Recipe))


def test_what_came_later_is_part_of_a_plan_where_it_is_used_alone():
    """So that results from before still are those of their plans."""
    suite = LanguageSuite("toy", "", (), Recipe())
    plan = suite.plan(LanguageRow("a"))["recipe"]
    assert not plan.keys() & {"optimizer", "ema_decay"} and Recipe(**plan) == Recipe()
    for change in ({"optimizer": "muon"}, {"ema_decay": 0.9}):
        changed = suite.plan(LanguageRow("a", recipe=change))["recipe"]
        assert changed == plan | change and Recipe(**changed) == replace(Recipe(), **change)


@pytest.mark.parametrize(
    ("row", "recipe"),
    [
        (LanguageRow("tmt", options={"decay": None}), OTHER),
        (LanguageRow("llama", family="llama", recipe=asdict(OTHER)), Recipe()),
        (LanguageRow("copying", family="llama", options={"copy_k": 2, "copy_dim": 4, "copy_memory": 20}), OTHER),
    ],
    ids=["tmt", "a recipe of its own", "with copy head"],
)
def test_a_recipe_is_what_is_done(other_corpus, tmp_path, row, recipe):
    suite = LanguageSuite("toy", "", (row,), recipe, full=SMALL)
    recorder = Recorder()
    result = measure_run(LanguageRun(suite, row, 3), other_corpus, tmp_path / "run", callbacks=[recorder])
    config, arguments = recorder.model.config, recorder.arguments

    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (24, 3, 2)
    assert (config.vocab_size, config.max_position_embeddings) == (310, 20)
    assert recorder.batch.shape == (5, 20) and len(other_corpus.tokenizer) <= 310
    assert (arguments.max_steps, arguments.eval_steps, arguments.save_steps, arguments.seed) == (4, 2, 3, 3)
    # of four steps the first two rise to the peak, and the others fall along a cosine to zero
    assert recorder.rates == pytest.approx([1.5e-3, 3e-3, 1.5e-3, 0.0], abs=1e-9) and recorder.decays == {0.03, 0.0}
    assert isinstance(recorder.optimizer, MuonWithAdamW)
    assert all("average" in state for state in recorder.optimizer.state.values())
    assert [entry["step"] for entry in result["history"] if "eval_loss" in entry] == [2, 4]
    assert result["tokens"] == 4 * 5 * 20 and result["plan"]["recipe"] == asdict(OTHER)

    # With dropout two passes differ in training, and agree in use.
    model, ids = copy.deepcopy(recorder.model).train(), recorder.batch
    first, second = (model(ids, labels=ids).loss for _ in range(2))
    assert first != second
    first, second = (model.eval()(ids, labels=ids).loss for _ in range(2))
    assert first == second


def test_the_looks_on_the_way_are_at_the_validation_split(other_corpus, tmp_path):
    row = LanguageRow("a", family="llama")
    suite = LanguageSuite("toy", "", (row,), replace(OTHER, learning_rate=1e-9), full=SMALL)
    recorder = Recorder()
    result = measure_run(LanguageRun(suite, row, 3), other_corpus, tmp_path / "run", callbacks=[recorder])
    valid = other_corpus.streams["valid"]
    ids = valid[: len(valid) // 20 * 20].view(-1, 20)
    with torch.no_grad():
        logits = recorder.model.eval()(ids).logits.double()
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    seen = [entry["eval_loss"] for entry in result["history"] if "eval_loss" in entry]
    assert seen == pytest.approx([expected.item()] * 2, rel=1e-5)


def test_the_first_tokens_of_the_validation_split_alone_are_scored(other_corpus):
    stream = other_corpus.streams["valid"]
    assert len(stream) == 90
    text = other_corpus.tokenizer.decode(stream)
    assert text.startswith("valid line 0 says word0")
    assert (other_corpus.words["valid"], other_corpus.bytes["valid"]) == (word_count([text]), byte_count([text]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_blocks_are_read_in_order_or_shuffled(other_corpus, tmp_path, shuffle):
    suite = LanguageSuite("toy", "", (LanguageRow("a", family="llama"),), replace(OTHER, shuffle=shuffle), full=SMALL)
    recorder = Recorder()
    measure_run(LanguageRun(suite, suite.rows[0], 3), other_corpus, tmp_path / "run", callbacks=[recorder])
    blocks = torch.tensor(other_corpus.blocks[:]["input_ids"])
    places = [int((blocks == row).all(dim=1).nonzero()[0]) for row in recorder.batch]
    steps = {second - first for first, second in zip(places, places[1:], strict=False)}
    assert (len(steps) > 1) == shuffle  # rows of a batch that read on are equally far apart in the text
