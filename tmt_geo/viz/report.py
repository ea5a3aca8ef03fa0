"""The report of a run: one HTML file that opens offline, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from tmt_geo.viz.comparison import ModelResult, comparison_rows
from tmt_geo.viz.exit_depth import Passage, exit_depth_html
from tmt_geo.viz.loss_curves import loss_curves
from tmt_geo.viz.page import Section, page_html


def build_report(
    results: Sequence[ModelResult],
    *,
    title: str,
    settings: Mapping[str, str],
    passage: Passage | None = None,
    sections: Sequence[Section] = (),
    prompt: str = "",
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Writes a comparison as one HTML page with plotly.js inside, so that it opens without a network.

    Args:
        results: The models, in the order of the columns.
        title: Headline.
        settings: What was run, as label to value.
        passage: A text with the depth of each token, or ``None`` to leave that part out.
        sections: More parts, behind the passage: figures of a fixed text, at several steps or after the last.
        prompt: What the samples continue.
        commands: Commands to try next.
        notes: Sentences on how to read the figures.

    Returns:
        The page. Every text handed in is escaped.

    Raises:
        ValueError: If ``results`` is empty.
    """
    parts = [
        _settings(settings),
        "<h2>Results</h2>",
        _table(results),
        *(f'<p class="soft">{escape(note)}</p>' for note in notes),
    ]
    if any(c.sample for c in results):
        parts += ["<h2>What they write</h2>", _samples(results, prompt)]
    histories = {c.name: c.history for c in results if c.history}
    if histories:
        parts.append(Section("Loss", loss_curves(histories)).html())
    if passage is not None:
        parts.append(Section("How deep each token went", exit_depth_html(passage), _passage_caption(passage)).html())
    parts += [section.html() for section in sections]
    if commands:
        parts += ["<h2>Try next</h2>", f"<pre>{escape(chr(10).join(commands))}</pre>"]
    figures = bool(histories) or any(not isinstance(section.body, str) for section in sections)
    return page_html(title, parts, figures=figures)


def _settings(settings: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in settings.items())
    return f"<dl>{items}</dl>"


def _table(results: Sequence[ModelResult]) -> str:
    head = "".join(f'<th scope="col">{escape(c.name)}</th>' for c in results)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for label, cells in comparison_rows(results)
    )
    return f'<table class="results"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'


def _samples(results: Sequence[ModelResult], prompt: str) -> str:
    said = f'<p class="soft">Each continues “{escape(prompt)}”.</p>' if prompt else ""
    return said + "".join(
        f"<p>{escape(c.name)}</p><blockquote>{escape(c.sample)}</blockquote>" for c in results if c.sample
    )


def _passage_caption(passage: Passage) -> str:
    source = f" {passage.source}" if passage.source else ""
    return f"The stronger the shade, the more of the {passage.num_layers} layers computed a token.{source}"
