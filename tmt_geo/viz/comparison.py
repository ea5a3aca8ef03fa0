"""Models side by side: one definition of the table for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ModelResult:
    """One model of a comparison, with what was measured on it.

    Args:
        name: What the table calls it.
        parameters: Number of parameters, shared weights counted once.
        evaluation: An object with the fields of :class:`tmt_geo.evaluate.EvalReport`.
        history: The trainer's log entries in order: ``step`` with ``loss`` or ``eval_loss`` (nats a token).
        tokens_per_second: Training throughput, or ``None`` where it was not trained here.
        sample: A text that it wrote, prompt included.
    """

    name: str
    parameters: int
    evaluation: Any
    history: Sequence[Mapping[str, Any]] = field(default_factory=list)
    tokens_per_second: float | None = None
    sample: str = ""


def comparison_rows(results: Sequence[ModelResult]) -> list[tuple[str, list[str]]]:
    """Returns the rows of the comparison as ``(label, one cell a result)``, ready to print.

    A row that no result has a figure for is left out.

    Raises:
        ValueError: If ``results`` is empty.
    """
    if not results:
        raise ValueError("'results' needs at least one model (got none)")
    rows = [
        ("parameters", [f"{c.parameters:,}" for c in results]),
        ("word perplexity", [_decimal(c.evaluation.word_ppl) for c in results]),
        ("token perplexity", [_decimal(c.evaluation.token_ppl) for c in results]),
        ("bits per byte", [_decimal(c.evaluation.bits_per_byte, 3) for c in results]),
        ("FLOPs a token, layers", [_quantity(c.evaluation.flops_per_token) for c in results]),
        ("FLOPs a token, head", [_quantity(c.evaluation.flops_per_token_head) for c in results]),
        ("active share by layer", [_shares(c.evaluation.active_share) for c in results]),
        ("mean active share", [_mean(c.evaluation.active_share) for c in results]),
        ("scoring tokens a second", [_quantity(getattr(c.evaluation, "tokens_per_second", None)) for c in results]),
        ("training tokens a second", [_quantity(c.tokens_per_second) for c in results]),
    ]
    return [(label, cells) for label, cells in rows if any(cell != "-" for cell in cells)]


def _decimal(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _quantity(value: float | None) -> str:
    if value is None:
        return "-"
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def _shares(shares: Sequence[float] | None) -> str:
    if shares is None or len(shares) == 0:
        return "-"
    return " ".join(f"{share:.2f}" for share in shares)


def _mean(shares: Sequence[float] | None) -> str:
    return "-" if shares is None or len(shares) == 0 else f"{sum(shares) / len(shares):.2f}"
