import pytest

from tmt_geo.data import load_text, train_tokenizer


@pytest.fixture(scope="session")
def splits():
    return load_text()


@pytest.fixture(scope="session")
def tokenizer(splits):
    return train_tokenizer(splits.train, vocab_size=512)
