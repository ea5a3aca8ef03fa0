"""The report of a run: one HTML file that opens offline, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from tmt_geo.viz.comparison import Contender, comparison_rows
from tmt_geo.viz.exit_depth import Passage, exit_depth_html
from tmt_geo.viz.loss_curves import loss_curves

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f23; --soft: #57606a; --line: #d0d7de; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --ink: #e6e9ec; --soft: #9aa4ae; --line: #363c43; }
}
body { background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  max-width: 56rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p.soft, figcaption { color: var(--soft); } figure { margin: 0; }
table.results { border-collapse: collapse; width: 100%; }
.results th, .results td { border-bottom: 1px solid var(--line); padding: .4em .6em; text-align: right;
  font-variant-numeric: tabular-nums; }
.results th:first-child { text-align: left; font-weight: normal; }
.results thead th { font-weight: 600; }
blockquote { margin: .4em 0 1.2em; padding: .5em 1em; border-left: 3px solid var(--line); white-space: pre-wrap;
  font-family: ui-monospace, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.2em; }
dt { color: var(--soft); } dd { margin: 0; }
pre { background: rgba(128,128,128,.13); padding: .8em 1em; overflow-x: auto; border-radius: 4px; }
"""

# No style sheet reaches into what plotly draws: hand it the colours of the page, now and whenever they change.
_FOLLOW_THEME = """
(function () {
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function paint() {
    var ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    var page = getComputedStyle(document.documentElement).getPropertyValue("--page").trim();
    Plotly.relayout("{plot_id}", {"font.color": ink, "hoverlabel.bgcolor": page, "hoverlabel.font.color": ink});
  }
  dark.addEventListener("change", paint);
  paint();
})();
"""


def build_report(
    contenders: Sequence[Contender],
    *,
    title: str,
    settings: Mapping[str, str],
    passage: Passage | None = None,
    prompt: str = "",
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Writes a comparison as one HTML page with plotly.js inside, so that it opens without a network.

    Args:
        contenders: The models, in the order of the columns.
        title: Headline.
        settings: What was run, as label to value.
        passage: A text with the depth of each token, or ``None`` to leave that part out.
        prompt: What the samples continue.
        commands: Commands to try next.
        notes: Sentences on how to read the figures.

    Returns:
        The page. Every text handed in is escaped.

    Raises:
        ValueError: If ``contenders`` is empty.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        _settings(settings),
        "<h2>Results</h2>",
        _table(contenders),
        *(f'<p class="soft">{escape(note)}</p>' for note in notes),
    ]
    if any(c.sample for c in contenders):
        parts += ["<h2>What they write</h2>", _samples(contenders, prompt)]
    histories = {c.name: c.history for c in contenders if c.history}
    if histories:
        parts += ["<h2>Loss</h2>", _figure(histories)]
    if passage is not None:
        parts += ["<h2>How deep each token went</h2>", _passage(passage)]
    if commands:
        parts += ["<h2>Try next</h2>", f"<pre>{escape(chr(10).join(commands))}</pre>"]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _settings(settings: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in settings.items())
    return f"<dl>{items}</dl>"


def _table(contenders: Sequence[Contender]) -> str:
    head = "".join(f'<th scope="col">{escape(c.name)}</th>' for c in contenders)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for label, cells in comparison_rows(contenders)
    )
    return f'<table class="results"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'


def _samples(contenders: Sequence[Contender], prompt: str) -> str:
    said = f'<p class="soft">Each continues “{escape(prompt)}”.</p>' if prompt else ""
    return said + "".join(
        f"<p>{escape(c.name)}</p><blockquote>{escape(c.sample)}</blockquote>" for c in contenders if c.sample
    )


def _figure(histories: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    figure = loss_curves(histories)
    html = figure.to_html(
        full_html=False, include_plotlyjs=True, config={"displaylogo": False}, post_script=_FOLLOW_THEME
    )
    return f"<figure>{html}</figure>"


def _passage(passage: Passage) -> str:
    source = f" {escape(passage.source)}" if passage.source else ""
    caption = f"The stronger the shade, the more of the {passage.num_layers} layers computed a token.{source}"
    return f"<figure><figcaption>{caption}</figcaption>{exit_depth_html(passage)}</figure>"
