"""A suite so small that a run takes a second, and a text to train it on."""

from dataclasses import replace

import pytest

from tmt_geo.compare import Recipe, load_corpus
from tmt_geo.compare.suites import ABLATION

MICRO = Recipe(
    d_model=16, n_layers=2, n_heads=2, vocab_size=300, block_size=16, batch_size=2, steps=6, stride=16, save_every=2
)


@pytest.fixture(scope="session")
def suite():
    wanted = ("vanilla", "full", "mesh", "decay", "exit", "mesh + decay + exit")
    rows = tuple(row for row in ABLATION.rows if row.name in wanted)
    small = {"index_dim": 8, "exit_budget": 0.6}  # of 16 channels and 2 layers
    rows = tuple(replace(row, options=row.options | small) if "index_dim" in row.options else row for row in rows)
    return replace(ABLATION, rows=rows, recipe=MICRO, seeds=(1, 2))


@pytest.fixture(scope="session")
def text_of(tmp_path_factory):
    """Writes splits of so many lines; returns their folder."""

    def write(**splits):
        folder = tmp_path_factory.mktemp("text")
        for name, lines in splits.items():
            text = "\n".join(f"{name} line {n % 13} says word{n % 7} and word{n % 5}" for n in range(lines))
            (folder / f"{name}.txt").write_text(text)
        return str(folder)

    return write


@pytest.fixture(scope="session")
def corpus(text_of):
    return load_corpus(text_of(train=120, valid=12, test=15), MICRO)
