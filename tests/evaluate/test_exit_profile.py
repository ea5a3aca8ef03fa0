"""Exit depth by kinds of tokens, on models whose exits are known."""

import json
from dataclasses import asdict

import pytest
import torch
from transformers.modeling_outputs import CausalLMOutput

from tmt_geo.data import token_stream, train_tokenizer
from tmt_geo.evaluate import exit_profile
from tmt_geo.evaluate.word_kinds import CLOSED_CLASSES, core, word_counts, word_kinds
from tmt_geo.models import TMTConfig, TMTModel

L = 3
TEXT = "The cat sat on 3 mats , and it was n't a zebra 's mat . \n\n A cat is na\u00efve : 1,990 <unk> cats sat .\n"


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes alone: every letter is a token, so that tokens can be counted in the text."""
    return train_tokenizer(["abc"], vocab_size=257)


@pytest.fixture
def leaving(bigram):
    """A model in which `rule` says at which layer a token leaves, from the tokens and their places in the window."""

    def make(rule, vocab_size=257):
        class Leaving(type(bigram())):
            def forward(self, input_ids):
                out = CausalLMOutput(logits=super().forward(input_ids).logits)
                depth = rule(input_ids, torch.arange(input_ids.size(1)).expand_as(input_ids))  # [B, S]
                out.exit_masks = depth <= torch.arange(L).view(L, 1, 1)
                return out

        return bigram(vocab_size=vocab_size, cls=Leaving)

    return make


def by_token(ids, place):
    return 1 + ids % L


def rows(found):
    return {row.kind: row for row in found}


@pytest.mark.parametrize("context", [5, 16, 10_000])
def test_depths_are_those_of_the_tokens(leaving, tokenizer, context):
    stream = token_stream([TEXT], tokenizer)
    depth = 1.0 + stream % L
    profile = exit_profile(leaving(by_token), stream, tokenizer, stream, context=context)
    assert profile.all.tokens == stream.numel()
    assert profile.all.depth == pytest.approx(depth.mean().item(), rel=1e-6)
    expected = [(depth <= layer).float().mean().item() for layer in range(L)]
    assert profile.all.frozen == pytest.approx(expected, rel=1e-6)
    assert profile.all.frozen[0] == 0 < profile.all.frozen[1] < profile.all.frozen[2]
    for part in (profile.by_count, profile.by_word):
        assert sum(row.tokens for row in part) == stream.numel()
        assert sum(row.tokens * row.depth for row in part) == pytest.approx(depth.sum().item(), rel=1e-6)
    commas = rows(profile.by_word)["number"]
    digits = torch.tensor([tokenizer.convert_tokens_to_ids(letter) for letter in "31,990"])
    assert commas.depth == pytest.approx((1.0 + digits % L).mean().item(), rel=1e-6)


@pytest.mark.parametrize("length", [1, 7, 8, 20, 53])
@pytest.mark.parametrize(("context", "stride"), [(8, 1), (8, 3), (8, 8), (1, 1), (8, None)])
def test_every_token_is_counted_once_with_the_context_it_is_promised(leaving, tokenizer, length, context, stride):
    """Those that leave early have fewer than so many tokens before them: none but the first of the stream."""
    promised = context - (stride or context // 2)
    model = leaving(lambda ids, place: torch.where(place < promised, 1, L))
    stream = token_stream(["x" * length], tokenizer)
    profile = exit_profile(model, stream, tokenizer, stream, context=context, stride=stride)
    assert profile.all.tokens == length
    assert profile.all.frozen == pytest.approx([0, *[min(promised, length) / length] * 2])


def test_tokens_are_in_the_order_of_the_stream(leaving, tokenizer):
    """Each row sees its own tokens' depths, over the border of windows and batches."""
    stream = token_stream(["ab " * 40 + "7 " * 40], tokenizer)
    seven = tokenizer.convert_tokens_to_ids("7")
    model = leaving(lambda ids, place: torch.where(ids == seven, 1, L))
    for batch_size in (1, 3, 100):
        profile = exit_profile(model, stream, tokenizer, stream, context=7, stride=4, batch_size=batch_size)
        kinds = rows(profile.by_word)
        assert (kinds["number"].tokens, kinds["number"].depth) == (40, 1)
        assert (kinds["other word"].tokens, kinds["other word"].depth) == (80, L)
        assert (kinds["white space"].tokens, kinds["white space"].depth) == (80, L)


def test_tokens_are_of_the_kind_of_their_word(leaving, tokenizer):
    stream = token_stream([TEXT, "it"], tokenizer)
    found = rows(exit_profile(leaving(by_token), stream, tokenizer, stream, rare=2).by_word)
    tokens = {kind: row.tokens for kind, row in found.items()}
    words = {
        "punctuation": [",", ".", ":", "."],
        "determiner": ["The", "a", "'s", "A"],
        "preposition": ["on"],
        "pronoun": ["it", "it"],
        "conjunction": ["and"],
        "auxiliary": ["was", "n't", "is"],
        "number": ["3", "1,990"],
        "unknown word": ["<unk>"],
        "rare word": ["mats", "zebra", "mat", "naive_", "cats"],  # with a letter of two bytes
        "other word": ["cat", "sat", "cat", "sat"],
    }
    expected = {kind: sum(map(len, listed)) for kind, listed in words.items()}
    expected["white space"] = sum(letter.isspace() for letter in TEXT)
    expected["special token"] = 1
    assert tokens == expected
    order = ["punctuation", "determiner", "preposition", "pronoun", "conjunction", "auxiliary", "number"]
    order += ["unknown word", "rare word", "other word", "white space", "special token"]
    assert list(tokens) == [kind for kind in order if kind in tokens]


def test_a_token_with_its_blank_is_of_its_word(leaving):
    """Byte-level tokens begin with the blank before the word."""
    tokenizer = train_tokenizer(["the 77 the 77 " * 9], vocab_size=270)
    stream = token_stream(["the 77 the 77"], tokenizer)
    assert tokenizer.convert_ids_to_tokens(stream.tolist())[1][0] == "\u0120"
    found = rows(exit_profile(leaving(by_token, 270), stream, tokenizer, stream).by_word)
    assert {kind: row.tokens for kind, row in found.items()} == {"determiner": 2, "number": 2}


def test_bands_follow_the_count_in_the_training_stream(leaving, tokenizer):
    """Not in the stream that is measured, and with both ends of a band inside."""
    train = token_stream(["b" + "c" * 10 + "d" * 11 + "e" * 100 + "f" * 101], tokenizer)
    stream = token_stream(["aabcdef"], tokenizer)
    depths = dict(zip("abcdef", (1, 2, 3, 1, 2, 3), strict=True))
    table = torch.ones(257, dtype=torch.long)
    for letter, depth in depths.items():
        table[tokenizer.convert_tokens_to_ids(letter)] = depth
    model = leaving(lambda ids, place: table[ids])
    found = exit_profile(model, stream, tokenizer, train, bands=(0, 1, 10, 100)).by_count
    assert [(row.kind, row.tokens, row.depth) for row in found] == [
        ("0", 2, 1),
        ("1", 1, 2),
        ("2-10", 1, 3),
        ("11-100", 2, 1.5),
        ("over 100", 1, 3),
    ]
    wide = exit_profile(model, stream, tokenizer, train, bands=[10]).by_count
    assert [(row.kind, row.tokens) for row in wide] == [("0-10", 4), ("over 10", 3)]


def test_rare_words_are_rare_in_the_training_text(leaving, tokenizer):
    train = token_stream(["dog Dog, cat cat", "dog"], tokenizer)
    stream = token_stream(["dog cat cat cat"], tokenizer)
    found = rows(exit_profile(leaving(by_token), stream, tokenizer, train, rare=3).by_word)
    assert (found["other word"].tokens, found["rare word"].tokens) == (3, 9)


def test_report_goes_to_json(leaving, tokenizer):
    stream = token_stream([TEXT], tokenizer)
    profile = exit_profile(leaving(by_token), stream, tokenizer, stream)
    assert json.loads(json.dumps(asdict(profile)))["all"]["tokens"] == stream.numel()


def test_language_model_of_this_package(tokenizer):
    torch.manual_seed(0)
    model = TMTModel(TMTConfig(vocab_size=257, d_model=16, n_heads=2, n_layers=L, max_seq_len=16, graph_k=3)).train()
    stream = token_stream([TEXT], tokenizer)[:96]
    with torch.no_grad():
        threshold = model.eval()(stream.view(6, 16)).confidences[0].median().item()
    model.config.exit_threshold = threshold
    model = TMTModel.from_pretrained(None, config=model.config, state_dict=model.state_dict()).train()
    profile = exit_profile(model, stream, tokenizer, stream, context=16, stride=16)
    with torch.no_grad():
        masks = model.eval()(stream.view(6, 16)).exit_masks
    assert profile.all.frozen == pytest.approx(masks.float().mean(dim=(1, 2)).tolist(), rel=1e-6)
    assert 0.2 < profile.all.frozen[1] < 0.8


def test_mode_of_the_model_is_left_alone(leaving, tokenizer):
    stream = token_stream(["abc"], tokenizer)
    model = leaving(by_token).train()
    exit_profile(model, stream, tokenizer, stream)
    assert model.training and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("stream", {"stream": torch.zeros(2, 3, dtype=torch.long)}),
        ("stream", {"stream": torch.tensor([1, 257])}),
        ("train_stream", {"train_stream": torch.zeros(0, dtype=torch.long)}),
        ("train_stream", {"train_stream": torch.zeros(3)}),
        ("context", {"context": 0}),
        ("stride", {"context": 4, "stride": 5}),
        ("batch_size", {"batch_size": 0}),
        ("rare", {"rare": 0}),
        ("bands", {"bands": (0, 10, 10)}),
        ("bands", {"bands": ()}),
    ],
)
def test_bad_arguments_are_named(leaving, tokenizer, name, change):
    stream = token_stream(["abc"], tokenizer)
    arguments = {"stream": stream, "train_stream": stream, "tokenizer": tokenizer} | change
    with pytest.raises(ValueError, match=rf"^'{name}' .*\(got .*\)$"):
        exit_profile(leaving(by_token), **arguments)


def test_a_model_without_exits_is_refused(bigram, tokenizer):
    stream = token_stream(["abc"], tokenizer)
    with pytest.raises(ValueError, match=r"^'model' .*\(got BigramModel\)$"):
        exit_profile(bigram(vocab_size=257), stream, tokenizer, stream)


def test_tokens_that_the_tokenizer_would_not_make_are_refused(leaving):
    tokenizer = train_tokenizer(["the the the"], vocab_size=260)
    letters = torch.tensor([tokenizer.convert_tokens_to_ids(letter) for letter in "the"])
    with pytest.raises(ValueError, match=r"^'stream' .*\(got 3 tokens, and 1 of their text\)$"):
        exit_profile(leaving(by_token, 260), letters, tokenizer, letters)


def test_closed_classes_share_no_word():
    listed = [word for words in CLOSED_CLASSES.values() for word in words.split()]
    assert len(listed) == len(set(listed))
    assert all(word == word.lower() for word in listed)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("(the", "determiner"), ("Whose", "determiner"), ("@-@", "punctuation"), ("...", "punctuation"),
        ("Between", "preposition"), ("\u201cthey", "pronoun"), ("because", "conjunction"), ("don\u2019t", "auxiliary"),
        ("'ll", "auxiliary"), ("1990s", "number"), ("3rd", "number"), ("-40%", "number"), ("12:30", "number"),
        ("10,000.5", "number"), ("B2", "other word"), ("Dog,", "other word"), ("dogs", "rare word"),
        ("<unk>", "unknown word"), ("unk", "rare word"), ("A", "determiner"),
        ("US", "rare word"), ("which", "pronoun"), ("\u00e9t\u00e9", "rare word"), ("3a", "rare word"),
    ],
)  # fmt: skip
def test_kinds_of_words(word, kind):
    counts = word_counts("dog Dog, b2 B2 dogs")
    assert word_kinds([word], counts, rare=2) == [kind]


def test_words_are_counted_without_case_and_punctuation():
    assert word_counts("A a, (A) @-@ b") == {"a": 3, "": 1, "b": 1}
    assert core("_(Don't!)_") == "don't"
