"""Blocks of a text in the order in which each row of a batch reads on where it stopped."""

from __future__ import annotations


def stream_order(num_blocks: int, rows: int) -> list[int]:
    """Order blocks so that batches of `rows` read as many streams of the text side by side.

    The text is cut into `rows` streams of equal length; block `t` of stream `r` stands at place ``t * rows + r``.
    Blocks that are left over at the end are dropped.

    Args:
        num_blocks (int): The blocks of the text, numbered in order.
        rows (int): The blocks in one batch.

    Returns:
        list[int]: The blocks, ``num_blocks // rows * rows`` of them.

    Raises:
        ValueError: If there is less than one block for each row.
    """
    length = num_blocks // rows
    if length == 0:
        raise ValueError(f"'num_blocks' must be at least one for each of {rows} rows (got {num_blocks})")
    return [row * length + block for block in range(length) for row in range(rows)]
