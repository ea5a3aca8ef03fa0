"""A text whose tokens are shaded by the number of layers that computed them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from tmt_geo.viz.palette import DEPTH_RGB

# Background colours with alpha over the page's own, and the page's own text colour: legible on light and dark alike.
_STYLE = """<style>
.tmt-depth p.tmt-text {{ white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9;
  font-family: ui-monospace, monospace; margin: .6em 0; }}
.tmt-depth .tmt-key {{ margin-right: 1.2em; white-space: nowrap; }}
.tmt-depth .tmt-key span {{ padding: 0 .6em; margin-right: .4em; }}
.tmt-depth span[class^="d"] {{ border-radius: 2px; box-shadow: inset 0 0 0 .5px rgba(128,128,128,.35); }}
.tmt-depth i {{ font-style: normal; opacity: .6; }}
.tmt-depth input:checked ~ p.tmt-text span::after {{ content: attr(data-n); font-size: .6em; vertical-align: sub;
  opacity: .75; }}
.tmt-depth table {{ border-collapse: collapse; }}
.tmt-depth td, .tmt-depth th {{ text-align: left; padding: .25em 1em .25em 0; vertical-align: top; }}
.tmt-depth code {{ background: rgba(128,128,128,.18); border-radius: 3px; padding: 0 .25em; white-space: pre; }}
{rules}
</style>"""


@dataclass
class Passage:
    """A text, token by token, with the number of layers that computed each.

    Args:
        tokens: The text of each token, in order.
        depth: For each token the number of layers that computed it, 1 to ``num_layers``.
        num_layers: Layers of the model.
        source: Where the text comes from, for the caption.

    Raises:
        ValueError: If ``tokens`` and ``depth`` differ in length, or a depth is not in 1 to ``num_layers``.
    """

    tokens: Sequence[str]
    depth: Sequence[int]
    num_layers: int
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.depth):
            raise ValueError(f"'depth' needs one entry a token, {len(self.tokens)} (got {len(self.depth)})")
        wrong = [depth for depth in self.depth if not 1 <= depth <= self.num_layers]
        if wrong:
            raise ValueError(f"'depth' must lie in 1 to {self.num_layers} (got {wrong[0]})")


def layers_computed(exit_masks: Tensor) -> Tensor:
    """Counts for each token the layers that computed it.

    Args:
        exit_masks: Bool (L, B, S), true where a token was frozen in a layer, as in ``TMTOutput.exit_masks``.

    Returns:
        Long (B, S).

    Raises:
        ValueError: If ``exit_masks`` is not three-dimensional.
    """
    if exit_masks.dim() != 3:
        raise ValueError(f"'exit_masks' must have shape (L, B, S) (got {tuple(exit_masks.shape)})")
    return (~exit_masks.bool()).sum(dim=0)


def visible_token(token: str) -> str:
    """Returns a token with its white space made visible: a line break, a tab, or a token of nothing but blanks."""
    shown = token.replace("\r", "␍").replace("\n", "↵").replace("\t", "⇥")
    return shown if shown.strip(" ") else shown.replace(" ", "·")


def exit_depth_html(passage: Passage, *, examples: int = 8) -> str:
    """Draws a passage with each token shaded by its depth, with a key and a table of what left where.

    Args:
        passage: The text and its depths. All of it is escaped.
        examples: How many of the commonest tokens to name for each depth.

    Returns:
        A self-contained HTML fragment without scripts, for a report or for ``IPython.display.HTML``.
    """
    layers, depths = passage.num_layers, sorted(set(passage.depth))
    spans = "".join(_span(token, depth, layers) for token, depth in zip(passage.tokens, passage.depth, strict=True))
    key = "".join(
        f'<span class="tmt-key"><span class="d{depth}">{depth}</span>{"layer" if depth == 1 else "layers"}</span>'
        for depth in range(1, layers + 1)
    )
    rules = "\n".join(f".tmt-depth .d{depth} {{ {_shade(depth, layers)} }}" for depth in range(1, layers + 1))
    rows = "".join(
        f'<tr><td><span class="d{depth}">&nbsp;{depth} of {layers}&nbsp;</span></td>'
        f"<td>{_share(passage, depth)}</td><td>{_examples(passage, depth, examples)}</td></tr>"
        for depth in depths
    )
    return (
        f'<div class="tmt-depth">{_STYLE.format(rules=rules)}<div>{key}</div>'
        f'<input type="checkbox" id="tmt-numbers"><label for="tmt-numbers"> write the number at every token</label>'
        f'<p class="tmt-text">{spans}</p>'
        f"<table><thead><tr><th>layers computed</th><th>share of tokens</th><th>most frequent there</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _span(token: str, depth: int, layers: int) -> str:
    title = escape(f"{visible_token(token)!r}: {depth} of {layers} layers", quote=True)
    text = escape(visible_token(token))
    # The sign for a line break stands before a real one, so that the text keeps its lines.
    text = text.replace("↵", "<i>↵</i>\n").replace("⇥", "<i>⇥</i>\t")
    return f'<span class="d{depth}" data-n="{depth}" title="{title}">{text}</span>'


def _shade(depth: int, layers: int) -> str:
    alpha = 0.06 + 0.54 * (depth - 1) / max(layers - 1, 1)
    return f"background: rgba({','.join(map(str, DEPTH_RGB))},{alpha:.2f})"


def _share(passage: Passage, depth: int) -> str:
    return f"{100 * passage.depth.count(depth) / len(passage.depth):.0f} %"


def _examples(passage: Passage, depth: int, count: int) -> str:
    there = Counter(token for token, d in zip(passage.tokens, passage.depth, strict=True) if d == depth)
    return " ".join(f"<code>{escape(visible_token(token))}</code>" for token, _ in there.most_common(count))
