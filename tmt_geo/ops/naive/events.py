"""Edges among events, one event at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def recent_events(edge_index: Tensor, time: Tensor, num_recent: int) -> tuple[Tensor, Tensor]:
    """The definition: go through all events for the earlier ones of each user. Returns edges and relations."""
    users, when = edge_index.t().tolist(), time.tolist()
    edges, relation = [], []
    for i, (source, target) in enumerate(users):
        for end, user in enumerate([source] if source == target else [source, target]):
            past = [j for j in range(len(users)) if when[j] < when[i] and user in users[j]]
            past.sort(key=lambda j: (when[j], j), reverse=True)
            edges += [(j, i) for j in past[:num_recent]]
            relation += [2 * end + users[j].index(user) for j in past[:num_recent]]
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t(), torch.tensor(relation, dtype=torch.long)
