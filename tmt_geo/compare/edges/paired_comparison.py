"""BREC's reliable paired comparison: does a model tell two graphs apart by more than it does two numberings of one?

Wang and Zhang, "An empirical study of realized GNN expressiveness", arXiv:2304.07702, section 5. A model is trained to
give two graphs, each under 32 numberings, embeddings that differ. Hotelling's statistic of the differences says
whether they do; that of the differences between 32 and 32 numberings of one graph, whether that can be believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.data.problems.brec import renumbered

CHANNELS = 16  # of an embedding
NUMBERINGS = 32
# (q - 1) d / (q - d) times the 0.95 quantile of Fisher's F(d, q - d), with q numberings and d channels.
THRESHOLD = 72.34
CLOSE = 1e-6
PAIRS = 20_000  # of nodes, that go through a model at once


@dataclass(frozen=True)
class Comparison:
    """How a model is trained on a pair: Adam and the cosine embedding loss with margin 0, as by BREC's authors.

    Attributes:
        epochs: At most so many times through all numberings; with 0 the model stays as it is drawn.
        batch: Graphs in a step, half of each kind.
        rate: Learning rate.
        weight_decay: That of Adam.
        enough: Training ends after an epoch of a smaller mean loss.
    """

    epochs: int = 20
    batch: int = 16
    rate: float = 1e-4
    weight_decay: float = 1e-4
    enough: float = 0.2


@dataclass(frozen=True)
class Verdict:
    """What a comparison says.

    Attributes:
        statistic: Of the two graphs.
        control: Of numberings of one of them.
    """

    statistic: float
    control: float

    @property
    def reliable(self) -> bool:
        """Whether numberings of one graph are not told apart."""
        return self.control < THRESHOLD

    @property
    def told(self) -> bool:
        """Whether the graphs are, and that can be believed."""
        close = abs(self.statistic - self.control) <= CLOSE + 1e-5 * abs(self.control)
        return self.reliable and self.statistic > THRESHOLD and not close


def compare_pair(model: nn.Module, one: Tensor, other: Tensor, how: Comparison, generator: torch.Generator) -> Verdict:
    """Train a model on a pair of graphs, in place, and judge whether it tells them apart.

    Args:
        model: Gives embeddings (B, d) of graphs by their matrices (B, n, n).
        one: A graph (n, n).
        other: Another graph of that size.
        how: The training.
        generator: Decides the numberings.
    """
    ones, others = (renumbered(graph, NUMBERINGS, generator) for graph in (one, other))
    separate(model, ones, others, how)
    model.eval()
    chosen = (one, other)[int(torch.randint(2, (), generator=generator))]
    control = renumbered(chosen, 2 * NUMBERINGS, generator)
    return Verdict(
        hotelling(embed(model, ones) - embed(model, others)),
        hotelling(embed(model, control[::2]) - embed(model, control[1::2])),
    )


def separate(model: nn.Module, ones: Tensor, others: Tensor, how: Comparison) -> None:
    """Train a model to give two graphs embeddings at right angles or beyond."""
    optimizer = torch.optim.Adam(model.parameters(), lr=how.rate, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    half = how.batch // 2
    model.train()
    for _ in range(how.epochs):
        total = 0.0
        for first, second in zip(ones.split(half), others.split(half), strict=True):
            optimizer.zero_grad()
            total += _descend(model, first, second)
            optimizer.step()
        mean = total / len(ones)
        if mean < how.enough:
            break
        schedule.step(mean)


def _descend(model: nn.Module, ones: Tensor, others: Tensor) -> float:
    """Add up the gradients of the mean loss of a step, a few graphs at a time; returns the sum of the losses."""
    total, few = 0.0, at_once(ones)
    for first, second in zip(ones.split(few), others.split(few), strict=True):
        ones_out, others_out = model(first), model(second)
        loss = F.cosine_embedding_loss(ones_out, others_out, -ones_out.new_ones(len(first)), reduction="sum")
        (loss / len(ones)).backward()
        total += loss.item()
    return total


@torch.no_grad()
def embed(model: nn.Module, graphs: Tensor) -> Tensor:
    """Embeddings (q, d) of graphs (q, n, n)."""
    return torch.cat([model(part) for part in graphs.split(at_once(graphs))])


def at_once(graphs: Tensor) -> int:
    """How many graphs (q, n, n) go through a model together."""
    return max(1, PAIRS // graphs[0].numel())


def hotelling(difference: Tensor) -> float:
    r"""The statistic :math:`\bar{d}^\top S^{+} \bar{d}` of differences (q, d), with their covariance S.

    As in the code that BREC's published figures come from, and without the factor q of the paper's formula: a graph
    counts as told only if it would by the formula with room to spare.
    """
    mean, rest = difference.mean(0), difference - difference.mean(0)
    covariance = rest.T @ rest / (len(difference) - 1)
    return float(mean @ torch.linalg.pinv(covariance, hermitian=True) @ mean)
