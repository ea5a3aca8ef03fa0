"""Why a model predicts what it does: its vocabulary head, the passages it copies from, and whom it attended to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from tmt_geo.viz.exit_depth import visible_token
from tmt_geo.viz.layers import visible_tokens
from tmt_geo.viz.palette import DEPTH_RGB, SERIES

if TYPE_CHECKING:
    from torch import Tensor

    from tmt_geo.evaluate.prediction_parts import Neighbor, PredictionParts, Vote
    from tmt_geo.viz.layers import Decoder

CANDIDATES, ROWS = 8, 10
BEFORE, AFTER = 7, 3  # tokens of a passage around the one that was found
BAR = 13  # em, the longest bar
_STYLE = f"""<style>
.tmt-why table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
.tmt-why th {{ font-weight: normal; opacity: .75; }}
.tmt-why th, .tmt-why td {{ text-align: left; padding: .18em .9em .18em 0; white-space: nowrap; }}
.tmt-why td.text {{ white-space: pre-wrap; overflow-wrap: anywhere; width: 100%; }}
.tmt-why h3 {{ font-size: 1em; margin: 1.5em 0 .3em; }} .tmt-why p {{ margin: .3em 0 .8em; }}
.tmt-why code {{ background: rgba(128,128,128,.18); border-radius: 3px; padding: 0 .3em; white-space: pre; }}
.tmt-why s {{ text-decoration: none; opacity: .7; }}
.tmt-why u {{ text-decoration: underline 2px {SERIES[0]}; text-underline-offset: .2em; }}
.tmt-why mark {{ color: inherit; background: none; font-weight: 600; box-shadow: inset 0 -2px {SERIES[1]}; }}
.tmt-why i {{ display: inline-block; height: .75em; vertical-align: baseline; }}
.tmt-why i.vocabulary {{ background: {SERIES[0]}; }} .tmt-why i.copied {{ background: {SERIES[1]}; }}
.tmt-why .key i {{ width: .9em; margin: 0 .4em 0 1.2em; }}
.tmt-why td.layer {{ padding: .18em .5em; text-align: right; border-left: 2px solid transparent;
  background-clip: padding-box; }}
</style>"""


def why_prediction(parts: PredictionParts, tokenizer: Decoder) -> str:
    """Shows what a prediction is made of.

    What to read in it: at the top the likeliest next tokens, each bar parted into what the vocabulary head and what
    copying gives; the two parts add up to the model's own probability. Then the passages that were copied from: what
    is underlined in blue was found to be like the last token, and what follows it, in orange, is what it votes for.
    Then whom the mesh attended to, in which layers, and what followed there.

    Args:
        parts: As :func:`tmt_geo.evaluate.prediction_parts` returns them.
        tokenizer: The model's tokenizer.

    Returns:
        A self-contained HTML fragment without scripts, for a page or for ``IPython.display.HTML``. All text in it is
        escaped.
    """
    words = visible_tokens(parts.tokens.tolist(), tokenizer)
    last = len(words) - 1
    before = escape("".join(words[max(last - 2 * BEFORE, 0) : last]))
    blocks = [
        _STYLE,
        f"<p>{'…' if last > 2 * BEFORE else ''}{before}<u>{escape(words[last])}</u> <b>→ ?</b></p>",
        _said(parts, tokenizer),
        _candidates(parts, tokenizer),
    ]
    if parts.votes:
        votes = [_vote(vote, parts, words) for vote in parts.votes[:ROWS]]
        blocks += ["<h3>Copied from</h3>", _table(("share", "votes for", "passage", "where"), votes)]
    if parts.neighbors:
        layers = [f"layer {layer}" for layer in range(1, len(parts.neighbors[0].weights) + 1)]
        head = (*layers, "attended to, and what followed", "edge", "where")
        neighbors = [_neighbor(neighbor, parts, words) for neighbor in parts.neighbors[:ROWS]]
        blocks += ["<h3>Attended to in the mesh</h3>", _table(head, neighbors)]
    return f'<div class="tmt-why">{"".join(blocks)}</div>'


def _said(parts: PredictionParts, tokenizer: Decoder) -> str:
    """The prediction in a sentence."""
    said = f"Next comes {_best(parts.prob, tokenizer)}."
    if parts.votes:
        said = f"Of this prediction {parts.share:.0%} is copied. {said}"
        said += f" The vocabulary head alone would say {_best(parts.vocabulary, tokenizer)}."
    return f"<p>{said}</p>"


def _best(prob: Tensor, tokenizer: Decoder) -> str:
    token = int(prob.argmax())
    return f"{_token(token, tokenizer)} with {float(prob[token]):.3f}"


def _token(index: int, tokenizer: Decoder) -> str:
    return f"<code>{escape(visible_token(tokenizer.decode([index])))}</code>"


def _candidates(parts: PredictionParts, tokenizer: Decoder) -> str:
    """The likeliest tokens with what each part gives them."""
    likeliest = parts.prob.topk(min(CANDIDATES, parts.prob.numel())).indices.tolist()
    longest = float(parts.prob[likeliest[0]])
    rows = []
    for token in likeliest:
        given = {"vocabulary": (1 - parts.share) * float(parts.vocabulary[token])}
        if parts.votes:
            given["copied"] = parts.share * float(parts.copied[token])
        bar = "".join(f'<i class="{name}" style="width: {BAR * p / longest:.2f}em"></i>' for name, p in given.items())
        cells = [_token(token, tokenizer), bar, f"{float(parts.prob[token]):.3f}"]
        rows.append(f"<tr>{_cells(cells)}{_cells([f'{float(parts.vocabulary[token]):.3f}'] * bool(parts.votes))}</tr>")
    key = '<i class="vocabulary"></i>vocabulary head' + '<i class="copied"></i>copied' * bool(parts.votes)
    head = ("next token", f'<span class="key">{key}</span>', "probability", *["vocabulary alone"] * bool(parts.votes))
    return _table(head, rows)


def _vote(vote: Vote, parts: PredictionParts, words: list[str]) -> str:
    given, token = f"{parts.share * vote.weight:.3f}", f"<code>{escape(words[vote.place])}</code>"
    return f"<tr>{_cells([given, token])}{_passage(vote.place, words)}{_cells([_where(vote.place - 1, parts)])}</tr>"


def _neighbor(neighbor: Neighbor, parts: PredictionParts, words: list[str]) -> str:
    shades = "".join(map(_shade, neighbor.weights))
    rest = ["window" if neighbor.window else "mesh", _where(neighbor.place, parts)]
    return f"<tr>{shades}{_passage(neighbor.place + 1, words)}{_cells(rest)}</tr>"


def _shade(weight: float) -> str:
    """A cell with what a neighbor weighed in a layer."""
    colour = f"rgba({','.join(map(str, DEPTH_RGB))},{min(weight, 1):.2f})"
    said = f"{weight:.2f}" if weight else "·"
    return f'<td class="layer" style="background-color: {colour}">{said}</td>'


def _passage(place: int, words: list[str]) -> str:
    """A cell with the text about a token that follows the one that was found."""
    start, end = max(place - 1 - BEFORE, 0), min(place + 1 + AFTER, len(words))
    before, after = "".join(words[start : place - 1]), "".join(words[place + 1 : end])
    before, after = "…" * (start > 0) + escape(before), escape(after) + "…" * (end < len(words))
    found = f"<u>{escape(words[place - 1])}</u><mark>{escape(words[place])}</mark>"
    return f'<td class="text"><s>{before}</s>{found}<s>{after}</s></td>'


def _where(place: int, parts: PredictionParts) -> str:
    back = parts.tokens.numel() - 1 - place
    return f"{back} back" + ", before the text" * (place < parts.remembered)


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    names = "".join(f"<th>{name}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
