"""Text as graphs: tokens are nodes, the mesh between them is built by the layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from tmt_geo.data.tokenizer import check_texts, encode

if TYPE_CHECKING:
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader
    from transformers import PreTrainedTokenizerFast


def text_to_data(text: str, tokenizer: PreTrainedTokenizerFast, max_length: int | None = None) -> Data:
    """Turns a text into a graph with a node a token and no edges.

    Args:
        text (str): The text.
        tokenizer (PreTrainedTokenizerFast): A fast tokenizer.
        max_length (int, optional): How many tokens to keep, from the start. (default: ``None``, all)

    Returns:
        A :class:`torch_geometric.data.Data` with ``input_ids`` and ``time``, both of shape ``(N,)`` and type int64;
        ``time`` is the position from 0 on, and starts again in every graph of a batch.

    Raises:
        ValueError: If ``text`` holds no token, or ``max_length`` is less than 1.
    """
    from torch_geometric.data import Data

    if max_length is not None and max_length < 1:
        raise ValueError(f"'max_length' must be at least 1 (got {max_length})")
    ids = encode([text], tokenizer)[0][:max_length]
    if not ids:
        raise ValueError(f"'text' must hold at least one token (got {text!r})")
    return Data(input_ids=torch.tensor(ids), time=torch.arange(len(ids)), num_nodes=len(ids))


def text_loader(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    batch_size: int = 1,
    max_length: int | None = None,
    shuffle: bool = False,
) -> DataLoader:
    """A PyG loader over texts of any lengths, a graph a text and no padding.

    Args:
        texts (iterable of str): The texts.
        tokenizer (PreTrainedTokenizerFast): A fast tokenizer.
        batch_size (int): The number of graphs in a batch. (default: ``1``)
        max_length (int, optional): How many tokens of each text to keep. (default: ``None``, all)
        shuffle (bool): Whether to draw the texts in a new order every time, from torch's global generator.
            (default: ``False``)

    Raises:
        ValueError: If ``texts`` is one string or one of them holds no token, or ``max_length`` or ``batch_size`` is
            less than 1.
    """
    from torch_geometric.loader import DataLoader

    if batch_size < 1:
        raise ValueError(f"'batch_size' must be at least 1 (got {batch_size})")
    graphs = [text_to_data(text, tokenizer, max_length) for text in check_texts(texts)]
    return DataLoader(graphs, batch_size=batch_size, shuffle=shuffle)
