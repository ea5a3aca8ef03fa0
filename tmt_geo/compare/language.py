"""Suites of language models: their rows, and the recipe by which these are trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from tmt_geo.compare.run import Run
from tmt_geo.compare.suite import Row, Suite

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    Names = Callable[[Tensor, PreTrainedTokenizerFast], Tensor]

FAR = 1000  # tokens since a name was last said
REVISION = 1  # of the protocol: results of another one are taken anew
LATER = ("optimizer", "ema_decay")  # of a recipe, newer than the first results: no part of a plan at their defaults


@dataclass(frozen=True)
class Recipe:
    """How every row of a suite is trained and measured; warm-up and a cosine to zero.

    Attributes:
        d_model: Channels.
        n_layers: Layers.
        n_heads: Heads.
        vocab_size: Tokens of the byte-level BPE that is trained on the training split.
        block_size: Tokens in a block, and in a window of the evaluation.
        batch_size: Blocks in a step.
        steps: Optimiser steps.
        learning_rate: At its peak.
        weight_decay: Of matrices.
        warmup: Share of the steps.
        dropout: Of embeddings, and of what attention and feed-forward networks add.
        stride: Tokens between windows of the evaluation.
        eval_every: Steps between two losses on a part of the validation split, for the loss curve; None for none.
        save_every: Steps between two checkpoints.
        shuffle: Whether blocks are read in random order, or else each row of a batch reads on where it stopped.
        valid_tokens: The first tokens of the validation split, which alone are scored; None for all.
        optimizer: ``"adamw"`` or ``"muon"``, see :class:`~tmt_geo.train.TrainConfig`.
        ema_decay: Of a running average of the weights, which is what is measured; None for the last weights.
    """

    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    vocab_size: int = 8192
    block_size: int = 256
    batch_size: int = 8
    steps: int = 500
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    warmup: float = 0.05
    dropout: float = 0.0
    stride: int = 256
    eval_every: int | None = None
    save_every: int = 200
    shuffle: bool = False
    valid_tokens: int | None = None
    optimizer: str = "adamw"
    ema_decay: float | None = None

    @property
    def plan(self) -> dict[str, Any]:
        """All fields but those that came later and are at their defaults, so that earlier results still count."""
        plain = {field.name: field.default for field in fields(self) if field.name in LATER}
        return {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}

    @property
    def corpus(self) -> tuple[int, int, int | None]:
        """What decides the tokens that are read: rows that agree in it share a corpus."""
        return self.vocab_size, self.block_size, self.valid_tokens


@dataclass(frozen=True)
class LanguageRow(Row):
    """A language model, trained by the recipe of its suite.

    Attributes:
        family: ``"tmt"``, or one of ``tmt_geo.evaluate.PEERS``.
        options: Of ``TMTConfig``, or of ``build_peer``; a peer with ``copy_k`` gets a copy head.
        recipe: What this row alone does otherwise, such as a size of its own in a suite over sizes.
        claimed: Published perplexity and relative compute, for a column of their own.
        profiled: Whether exit depths by kind of token are measured.
        passkey: Distances at which passkeys are tried.
        matched: Whether its width is chosen so that its parameters are those of the suite's full model.
        cached: Whether it is also measured with caches beside it, see :mod:`tmt_geo.compare.caches`.
    """

    family: str = "tmt"
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    claimed: tuple[float, float] | None = None
    profiled: bool = False
    passkey: tuple[int, ...] = ()
    matched: bool = True
    cached: bool = False


@dataclass(frozen=True)
class LanguageSuite(Suite):
    """Language models that read the same tokens in the same order.

    Attributes:
        recipe: How all of them are trained.
        full: Options of the ``TMTModel`` whose parameters all matched rows have.
        baseline: The row that ratios refer to.
        seeds: Of the runs.
        tested: Whether the test split is measured; not where something is still to be chosen.
        names: Which tokens of a text are names, of which those last said over `FAR` tokens ago are measured too.
    """

    rows: tuple[LanguageRow, ...]
    recipe: Recipe
    full: dict[str, Any] = field(default_factory=dict)
    baseline: str = "vanilla"
    seeds: tuple[int, ...] = (42, 1337, 2024)
    tested: bool = True
    names: Names | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are measured, the last of them for the ratios."""
        return ("valid", "test") if self.tested else ("valid",)

    def only(self, rows: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> LanguageSuite:
        """The same suite with some of its rows and seeds; without names, or without seeds, with all.

        Raises:
            ValueError: If the suite does not have one of them.
        """
        _check_known("rows", rows, [row.name for row in self.rows])
        _check_known("seeds", seeds, self.seeds)
        wanted = tuple(row for row in self.rows if not rows or row.name in rows)
        return replace(self, rows=wanted, seeds=tuple(seed for seed in self.seeds if not seeds or seed in seeds))

    def runs(self) -> Iterator[LanguageRun]:
        """All rows with the first seed, then all with the next."""
        for seed in self.seeds:
            for row in self.rows:
                yield LanguageRun(self, row, seed)

    def recipe_of(self, row: LanguageRow) -> Recipe:
        """The recipe of a row."""
        return replace(self.recipe, **row.recipe)

    def plan(self, row: LanguageRow) -> dict[str, Any]:
        """Protocol, recipe and options: rows of two suites that are the same run share its result."""
        plan = {"revision": REVISION, "recipe": self.recipe_of(row).plan}
        plan |= {"family": row.family, "options": row.options, "matched": self.full if row.matched else None}
        return json.loads(json.dumps(plan))


@dataclass(frozen=True)
class LanguageRun(Run):
    """A language model with one seed, which decides its weights and what is random in its training."""

    suite: LanguageSuite
    row: LanguageRow
    seed: int

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.suite.recipe_of(self.row)


def _check_known(name: str, wanted: Sequence[Any] | None, known: Sequence[Any]) -> None:
    if unknown := [one for one in wanted or () if one not in known]:
        raise ValueError(f"'{name}' must be among {', '.join(map(str, known))} (got {unknown[0]!r})")
