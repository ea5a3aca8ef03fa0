import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tmt_geo.data import token_stream, tokenize_blocks

TEXTS = ["first document\n", "second, a little longer\n", "third"]


def test_stream_is_the_documents_joined_by_end_of_text(tokenizer):
    stream = token_stream(TEXTS, tokenizer)
    assert stream.dtype == torch.long and stream.dim() == 1
    assert tokenizer.decode(stream) == "<|endoftext|>".join(TEXTS)
    assert (stream == tokenizer.eos_token_id).sum() == len(TEXTS) - 1


def test_stream_of_real_text_comes_back(tokenizer, splits):
    assert tokenizer.decode(token_stream(splits.valid, tokenizer)) == "<|endoftext|>".join(splits.valid)


def test_stream_ignores_truncation_and_padding_of_the_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    short = PreTrainedTokenizerFast.from_pretrained(tmp_path, model_max_length=4)
    short.backend_tokenizer.enable_truncation(4)
    short.backend_tokenizer.enable_padding(length=64)
    assert token_stream(TEXTS, short).equal(token_stream(TEXTS, tokenizer))


@pytest.mark.parametrize("block_size", [2, 7, 64])
def test_blocks_are_the_stream_in_order_less_the_remainder(tokenizer, splits, block_size):
    stream = token_stream(splits.valid[:3], tokenizer)
    blocks = tokenize_blocks(splits.valid[:3], tokenizer, block_size)
    assert blocks.column_names == ["input_ids"]
    assert all(len(row["input_ids"]) == block_size for row in blocks)
    joined = [token for row in blocks for token in row["input_ids"]]
    assert len(stream) - len(joined) < block_size
    assert joined == stream[: len(joined)].tolist()


def test_blocks_collate_to_int64(tokenizer, splits):
    from transformers import default_data_collator

    blocks = tokenize_blocks(splits.valid[:2], tokenizer, 16)
    batch = default_data_collator([blocks[0], blocks[1]])["input_ids"]
    assert batch.shape == (2, 16) and batch.dtype == torch.long


def test_bad_arguments_are_named(tokenizer):
    with pytest.raises(ValueError, match=r"^'block_size' must be at least 2 \(got 1\)$"):
        tokenize_blocks(TEXTS, tokenizer, 1)
    with pytest.raises(ValueError, match=r"^'texts' must fill a block of 1000 tokens \(got \d+ tokens\)$"):
        tokenize_blocks(TEXTS, tokenizer, 1000)
    with pytest.raises(ValueError, match=r"^'texts' must be a list of documents \(got one string of 5 characters\)$"):
        token_stream("third", tokenizer)
    with pytest.raises(ValueError, match=r"^'texts' must hold text \(got 0 documents, all empty\)$"):
        token_stream([], tokenizer)
    nameless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match=r"^'tokenizer' must have an end-of-text token \(got eos_token None\)$"):
        token_stream(TEXTS, nameless)
