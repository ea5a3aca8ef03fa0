"""What a training leaves for its user: a page with the losses and the mesh, and a summary on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmt_geo.apps.shell import quoted, this_command
from tmt_geo.cli.screen import say, say_next
from tmt_geo.cli.training_figures import step_sections
from tmt_geo.extras import MissingExtra, check_extra
from tmt_geo.train.config import SETTINGS_FILE

if TYPE_CHECKING:
    from torch_geometric.data import Data
    from transformers import PreTrainedTokenizerFast

    from tmt_geo.train import TrainResult


def can_draw() -> bool:
    """Whether there will be a report; where not, says before the training what it needs."""
    try:
        check_extra("the report", "demo", "plotly", "networkx")
    except MissingExtra as missing:
        say(f"report     none: {missing}")
        return False
    return True


def report_page(
    run: str,
    history: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerFast,
    graphs: Mapping[int, Sequence[Data]],
    intro: str,
    refresh: int | None = None,
) -> str:
    """Draws the losses and, where there are graphs of a passage, how it was read at each step, as one page.

    Args:
        run: Name of the run.
        history: The log entries so far, at least one of them with a loss.
        tokenizer: The model's tokenizer.
        graphs: Step to the layers, as :class:`tmt_geo.train.trace_callback.TraceCallback` keeps them.
        intro: A sentence below the headline.
        refresh: Seconds after which an open page loads itself again; never for ``None``.
    """
    from tmt_geo import viz

    sections = [viz.Section("Loss", viz.loss_curves({"TMT": history}))]
    if graphs:
        step, layers = list(graphs.items())[-1]
        if "confidence" in layers[0]:
            passage = viz.passage_of(layers, viz.token_labels(layers, tokenizer))
            caption = f"The validation text at step {step:,}; a stronger shade: more of the {len(layers)} layers."
            sections.append(viz.Section("How deep each token went", viz.exit_depth_html(passage), caption))
        sections += step_sections(graphs, tokenizer)
    return viz.figures_page(f"Training of {run}", sections, intro=intro, refresh=refresh)


def print_summary(result: TrainResult, seconds: float, report: Path | None) -> None:
    """Prints what a training reached, where it is saved and what to try next."""
    losses = [entry["loss"] for entry in result.history if "loss" in entry]
    validation = [entry["eval_loss"] for entry in result.history if "eval_loss" in entry]
    out = quoted(result.out)
    say(f"\ntrained in {seconds:.0f} s, {result.tokens_per_second:,.0f} tokens a second")
    if losses:
        say(f"training loss    {losses[0]:.3f} -> {losses[-1]:.3f} nats a token")
    if validation:
        say(f"validation loss  {validation[-1]:.3f} nats a token")
    shares = [value for name, value in result.history[-1].items() if "active_share/" in name]
    if shares:
        say(f"active share     {' '.join(f'{share:.2f}' for share in shares)} by layer")
    say(f"saved in         {result.out}")
    if report is not None:
        say(f"report           {report}")
    command = this_command()
    commands = [
        (f"{command} evaluate {out}", "perplexity and compute on the test part of the same text"),
        (f'{command} generate {out} "The" --sample', "let it write"),
    ]
    if (result.out / "runs").is_dir():
        tensorboard = this_command("tensorboard", "tensorboard.main")
        commands.append((f"{tensorboard} --logdir {out}", "losses, gate loss, active share and edges over time"))
    again = quoted(result.out / SETTINGS_FILE)
    commands.append((f"{command} train --config {again} --out NEW", "the same run once more; flags change it"))
    say_next(commands)
