"""How deep tokens go: layers computed by how frequent a token is, and by the kind of its word."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tmt_geo.evaluate.forward import measuring, plain_forward
from tmt_geo.evaluate.perplexity import check_stream
from tmt_geo.evaluate.read_windows import window_starts
from tmt_geo.evaluate.word_kinds import KINDS, WORD, word_counts, word_kinds

BANDS = (0, 10, 100, 1_000, 10_000)
TOKEN_KINDS = (*KINDS, "white space", "special token")


@dataclass
class ExitRow:
    """How deep the tokens of one kind went.

    Attributes:
        kind: What they have in common.
        tokens: How many there are.
        depth: Layers that computed them, mean.
        frozen: For each layer, the share that was frozen when it ran.
    """

    kind: str
    tokens: int
    depth: float
    frozen: list[float]


@dataclass
class ExitProfile:
    """Exit depth over a stream; ``dataclasses.asdict`` makes it ready for JSON.

    Attributes:
        all: Every token.
        by_count: By the count of the token in the training stream, in bands from rare to frequent.
        by_word: By the kind of its word.
    """

    all: ExitRow
    by_count: list[ExitRow]
    by_word: list[ExitRow]


def exit_profile(
    model: PreTrainedModel,
    stream: Tensor,
    tokenizer: PreTrainedTokenizerFast,
    train_stream: Tensor,
    *,
    context: int = 256,
    stride: int | None = None,
    batch_size: int = 8,
    bands: Sequence[int] = BANDS,
    rare: int = 10,
    progress: bool = False,
) -> ExitProfile:
    """Count the layers that computed each token of a stream, and average them by kind of token.

    The stream is read in windows as :func:`tmt_geo.evaluate.evaluate_model` reads it, but for the start token: every
    token is counted once, where it has at least ``context - stride`` tokens before it, or all there are.

    A word is what stands between white space in the decoded text, and a token is of the kind of its word. Without a
    tagger kinds are closed lists of English and patterns (see :func:`tmt_geo.evaluate.word_kinds.word_kinds`): they
    know no context, and do not distinguish nouns from verbs. Tokens of nothing but white space, and special tokens,
    are kinds of their own.

    Args:
        model: A causal language model whose output has ``exit_masks`` (L, B, S), true where a token was frozen when a
            layer ran.
        stream: Token ids (N,), as the tokenizer makes them of their own text.
        tokenizer: The fast tokenizer of both streams.
        train_stream: Token ids (M,) of what the model was trained on, for the counts.
        context: Tokens a window.
        stride: Tokens between windows (default: half of ``context``).
        batch_size: Windows in one forward pass; has no influence on the result.
        bands: Largest counts of the bands but the last, which has no end, rising.
        rare: Occurrences in the training text below which a word is rare.
        progress: Show a bar.

    Returns:
        The profile. Kinds and bands without a token are left out.

    Raises:
        ValueError: A stream is no vector of the model's ids or is empty, the model reports no exits, the tokenizer
            makes other tokens of the text, ``stride`` exceeds ``context``, a count is below one, or ``bands`` do not
            rise.
    """
    stride = max(1, context // 2) if stride is None else stride
    check_stream("stream", stream, model.config.vocab_size)
    check_stream("train_stream", train_stream, model.config.vocab_size)
    for name, count in (("context", context), ("batch_size", batch_size), ("rare", rare)):
        if count < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {count})")
    if not 1 <= stride <= context:
        raise ValueError(f"'stride' must lie between 1 and the context of {context} (got {stride})")
    if not bands or any(low >= high for low, high in zip(bands, bands[1:], strict=False)):
        raise ValueError(f"'bands' must be counts that rise (got {tuple(bands)})")

    kinds = _kinds(stream.tolist(), train_stream.tolist(), tokenizer, rare)
    frozen = _frozen(model, stream.cpu().long(), context, stride, batch_size, progress)
    counts = torch.bincount(train_stream.cpu(), minlength=model.config.vocab_size)[stream.cpu()]
    band = torch.bucketize(counts, torch.tensor(bands))
    return ExitProfile(
        all=_row("all", frozen),
        by_count=_rows(_band_names(bands), band, frozen),
        by_word=_rows(TOKEN_KINDS, torch.tensor([TOKEN_KINDS.index(kind) for kind in kinds]), frozen),
    )


def _band_names(bands: Sequence[int]) -> list[str]:
    ranges = zip((0, *(high + 1 for high in bands)), bands, strict=False)
    return [f"{low}-{high}" if low < high else f"{high}" for low, high in ranges] + [f"over {bands[-1]}"]


def _rows(names: Sequence[str], place: Tensor, frozen: Tensor) -> list[ExitRow]:
    """One row for each name that a token's place (N,) points to."""
    return [_row(name, frozen[:, place == i]) for i, name in enumerate(names) if (place == i).any()]


def _row(kind: str, frozen: Tensor) -> ExitRow:
    share = frozen.double().mean(dim=1)  # [L]
    return ExitRow(kind, frozen.size(1), (1 - share).sum().item(), share.tolist())


def _frozen(
    model: PreTrainedModel, stream: Tensor, context: int, stride: int, batch_size: int, progress: bool
) -> Tensor:
    """Whether each token was frozen when each layer ran, bool (L, N)."""
    width = min(context, stream.numel())
    starts, first = window_starts(stream.numel(), width, stride)
    offsets = torch.arange(width)
    parts = []
    with measuring(model):
        for at in tqdm(range(0, starts.numel(), batch_size), disable=not progress, desc="exits", unit="batch"):
            place = starts[at : at + batch_size].unsqueeze(1) + offsets  # [B, S]
            masks = getattr(plain_forward(model, stream[place]), "exit_masks", None)
            if masks is None:
                raise ValueError(f"'model' must report which tokens exit, as exit_masks (got {type(model).__name__})")
            # Windows follow each other in the stream, and so do the tokens that each is the first to hold.
            parts.append(masks[:, offsets >= first[at : at + batch_size].unsqueeze(1)].cpu())
    return torch.cat(parts, dim=1)


def _kinds(ids: list[int], train_ids: list[int], tokenizer: PreTrainedTokenizerFast, rare: int) -> list[str]:
    """The kind of each token, one of ``TOKEN_KINDS``."""
    text = str(tokenizer.decode(ids))
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if encoding["input_ids"] != ids:
        raise ValueError(
            f"'stream' must be what 'tokenizer' makes of its own text (got {len(ids)} tokens, "
            f"and {len(encoding['input_ids'])} of their text)"
        )
    words = list(WORD.finditer(_without_special(text, tokenizer)))
    begins = [word.start() for word in words]
    counts = word_counts(_without_special(str(tokenizer.decode(train_ids)), tokenizer))
    of_word = word_kinds((word.group() for word in words), counts, rare)
    special = set(tokenizer.all_special_ids)
    kinds = []
    for token, (start, end) in zip(ids, encoding["offset_mapping"], strict=True):
        letters = start + len(text[start:end]) - len(text[start:end].lstrip())
        if token in special:
            kinds.append("special token")
        elif letters == end:
            kinds.append("white space")
        else:
            kinds.append(of_word[bisect_right(begins, letters) - 1])
    return kinds


def _without_special(text: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """Blanks in place of special tokens, as many as they have letters: one that ends a text is no part of a word."""
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, " " * len(token))
    return text
