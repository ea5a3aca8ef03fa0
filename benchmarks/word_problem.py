"""Can edges learn what nodes of as many layers do not? The word problem of S3, causal, at every prefix.

    python -m benchmarks.word_problem            edges, in a minute or two on one core
    python -m benchmarks.word_problem --forms    the same layers without attention among the edges

A word is a sequence of permutations of three things; position i is asked for the product of the first i. Words grow to
their full length over the first half of the training. One layer is applied several times. One seed and a small budget:
a check that the layers learn, not a result.
"""

from __future__ import annotations

import argparse
import itertools
import time

import torch
from torch import Tensor, nn

from tmt_geo.nn.quartic_layer import QuarticLayer

GROUP = list(itertools.permutations(range(3)))
TABLE = torch.tensor([[GROUP.index(tuple(b[a[i]] for i in range(3))) for b in GROUP] for a in GROUP])


def words(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random words and the products of their prefixes, each (count, length)."""
    word = torch.randint(len(GROUP), (count, length), generator=generator)
    products = [word[:, 0]]
    for step in range(1, length):
        products.append(TABLE[products[-1], word[:, step]])
    return word, torch.stack(products, dim=1)


class WordReader(nn.Module):
    """A quartic layer, several times, over all pairs of positions from the earlier to the later."""

    def __init__(self, channels: int, rounds: int, heads: int, forms: tuple[str, ...]):
        super().__init__()
        self.embedding = nn.Embedding(len(GROUP) + 1, channels)  # the last is the mark of the start
        self.distance = nn.Embedding(3, channels)  # none, one, more
        self.layer = QuarticLayer(channels, channels, heads, forms, causal=True)
        self.rounds = rounds
        self.head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, len(GROUP)))

    def forward(self, word: Tensor) -> Tensor:
        """Logits (B, S, 6) of words (B, S)."""
        word = nn.functional.pad(word, (1, 0), value=len(GROUP))  # position 0 is the mark of the start
        count, length = word.shape
        pair = torch.triu_indices(length, length)
        edge_index = (pair.unsqueeze(1) + length * torch.arange(count).view(1, -1, 1)).flatten(1)
        batch = torch.arange(count).repeat_interleave(length)
        when = torch.arange(length).repeat(count)
        x = self.embedding(word.flatten())
        edge_attr = self.distance((pair[1] - pair[0]).clamp(max=2)).repeat(count, 1)
        for _ in range(self.rounds):
            x, edge_attr = self.layer(x, edge_index, edge_attr, batch, time=when)
        return self.head(x).view(count, length, -1)[:, 1:]


def accuracy(model: WordReader, length: int, generator: torch.Generator, count: int = 256) -> tuple[float, float]:
    """The share of right answers at all positions and at the last one."""
    word, product = words(count, length, generator)
    with torch.no_grad():
        right = (model(word).argmax(-1) == product).float()
    return float(right.mean()), float(right[:, -1].mean())


def main() -> None:
    """Train one model and print what it knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", nargs="*", default=["factored"], help="attention among edges, one after another")
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed + 1)
    model = WordReader(options.channels, options.rounds, 4, tuple(options.forms))
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=options.steps)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, forms {options.forms}")
    began = time.process_time()
    for step in range(1, options.steps + 1):
        grown = min(options.length, 2 + 2 * (options.length - 2) * step // options.steps)
        word, product = words(32 if 2 * grown > options.length else 64, grown, generator)
        loss = nn.functional.cross_entropy(model(word).flatten(0, 1), product.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            mean, last = accuracy(model, options.length, torch.Generator().manual_seed(99))
            spent = time.process_time() - began
            print(f"step {step}: loss {loss:.3f}, all {mean:.3f}, last {last:.3f}, {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
