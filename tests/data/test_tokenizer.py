import os
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers.normalizers import Prepend
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tmt_geo.data import load_tokenizer, train_tokenizer
from tmt_geo.data import tokenizer as data_tokenizer
from tmt_geo.data.tokenizer import encode, pieces

ODD = [
    "",
    " ",
    "\n\n\n  \t\r\n",
    "  two  spaces , and a stop .",
    "don 't isn't",
    "caf\u00e9 cafe\u0301 \u00a0\u2028 \U0001f600 \x00\x1c\x7f",
    "a<|endoftext|>b",
]


@pytest.mark.parametrize("text", ODD, ids=repr)
def test_odd_texts_come_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_unseen_text_comes_back_in_fewer_tokens_than_bytes(tokenizer, splits):
    for text in splits.test:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert max(ids) < len(tokenizer)
        assert len(ids) < 0.6 * len(text.encode())


def test_size_and_special_tokens(tokenizer):
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert len(tokenizer) == 512
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("<|endoftext|>")["input_ids"] == [tokenizer.eos_token_id] == [0]


def test_smallest_vocabulary_is_the_bytes(splits):
    tokenizer = train_tokenizer(splits.train[:1], vocab_size=257)
    assert len(tokenizer) == 257
    assert len(tokenizer("abc \u00e9")["input_ids"]) == 6


def test_saved_and_loaded_by_auto_tokenizer(tokenizer, splits, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert (loaded.eos_token_id, loaded.bos_token_id, loaded.pad_token_id) == (0, 0, 0)
        for text in ODD + splits.valid:
            assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
            assert loaded.decode(loaded(text)["input_ids"]) == text


def test_corpus_and_tokenizer_do_not_depend_on_hash_seed_or_threads(splits, tokenizer):
    code = (
        "from tmt_geo.data import load_text, train_tokenizer; import zlib; splits = load_text();"
        "tokenizer = train_tokenizer(splits.train, 512);"
        "print(zlib.crc32(repr(splits).encode()), zlib.crc32(tokenizer.backend_tokenizer.to_str().encode()))"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    env = os.environ | {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1", "PYTHONPATH": paths}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    here = zlib.crc32(repr(splits).encode()), zlib.crc32(tokenizer.backend_tokenizer.to_str().encode())
    assert tuple(map(int, run.stdout.split())) == here


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_tokenize_as_the_whole(tokenizer, splits, size):
    text = "\n\n  " + splits.valid[0] + "word\n\n\n  word  _x ! , \u00a0 \x1c tail\n"
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert len(cut) > len(text) / (size + 100)
    assert [i for piece in cut for i in tokenizer(piece)["input_ids"]] == tokenizer(text)["input_ids"]


def test_encode_takes_long_documents_apart_where_no_token_crosses(tokenizer, splits, monkeypatch):
    texts = [*splits.valid[:5], "", *ODD]
    whole = [tokenizer(text)["input_ids"] for text in texts]
    monkeypatch.setattr(data_tokenizer.pieces, "__defaults__", (10,))
    assert encode(texts, tokenizer) == whole


@pytest.mark.parametrize("kind", ["prefix", "normalizer", "phrase", "strip"])
def test_encode_leaves_documents_whole_where_a_token_may_cross(splits, monkeypatch, kind):
    tokenizer = train_tokenizer(splits.train[:2], 300)
    if kind == "prefix":
        tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    elif kind == "normalizer":
        tokenizer.backend_tokenizer.normalizer = Prepend("x")
    else:
        tokenizer.add_tokens(AddedToken("two words") if kind == "phrase" else AddedToken("two", rstrip=True))
    text = "these are\ntwo words and two words more"
    whole = tokenizer(text)["input_ids"]
    monkeypatch.setattr(data_tokenizer.pieces, "__defaults__", (1,))
    assert [i for piece in pieces(text) for i in tokenizer(piece)["input_ids"]] != whole
    assert encode([text], tokenizer) == [whole]


def test_gpt2_loads_from_files_and_gets_a_padding_token(data_folder, tmp_path):
    from transformers import GPT2TokenizerFast

    files = data_folder / "gpt2-bpe"
    GPT2TokenizerFast(str(files / "encoder.json"), str(files / "vocab.bpe")).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer) == 50_257
    assert tokenizer("Hello world")["input_ids"] == [15496, 995]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 50_256


@pytest.mark.parametrize("vocab_size", [-1, 0, 256])
def test_too_small_a_vocabulary(vocab_size):
    with pytest.raises(ValueError, match=rf"^'vocab_size' must be at least 257.*\(got {vocab_size}\)$"):
        train_tokenizer(["some text"], vocab_size)


@pytest.mark.parametrize("texts", ["one string", [], ["", ""]])
def test_no_documents(texts):
    with pytest.raises(ValueError, match=r"^'texts' must .*\(got .*\)$"):
        train_tokenizer(texts)


def test_load_tokenizer_names_the_argument(tmp_path, tokenizer):
    for name in (tmp_path, "no-such/tokenizer", tmp_path / "missing"):
        with pytest.raises(ValueError, match=rf"^'name_or_dir' .*\(got '{name}'\)$"):
            load_tokenizer(name)
    tokenizer.save_pretrained(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^'name_or_dir' holds no tokenizer that loads"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_end_of_text_is_refused(tokenizer, tmp_path):
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'name_or_dir' must name a tokenizer with an end-of-text token"):
        load_tokenizer(tmp_path)
