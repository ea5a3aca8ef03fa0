"""How the layers treat a fixed passage at several steps of a training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import Data
from transformers import TrainerCallback

from tmt_geo.nn.evaluation_mode import evaluation_mode


class TraceCallback(TrainerCallback):
    """Keeps the layer graphs of a fixed passage at several steps, from the first to the last.

    The run stays what it would be without it. The passage is read in evaluation mode, so no anchor or gate moves and
    no random number is drawn. It is read between two steps, so the clock of the steps does not run. A resumed run is
    traced from where it goes on. Of several processes only the main one traces.

    Args:
        input_ids: The tokens of the passage (S).
        count: At how many steps to read it, evenly spread; fewer where there are fewer steps.

    Attributes:
        graphs: Step to layers, as ``layer_graphs`` returns them, in main memory. Step 0 is the fresh model.

    Raises:
        ValueError: If ``input_ids`` is empty or ``count`` is less than two.
    """

    def __init__(self, input_ids: Sequence[int], count: int = 5):
        if len(input_ids) == 0:
            raise ValueError("'input_ids' needs at least one token (got none)")
        if count < 2:
            raise ValueError(f"'count' must be at least 2, the first step and the last (got {count})")
        self.input_ids = torch.as_tensor(input_ids, dtype=torch.long).unsqueeze(0)  # [1, S]
        self.count = count
        self.graphs: dict[int, list[Data]] = {}
        self._steps: set[int] = set()

    def on_train_begin(self, args, state, control, **kwargs):
        """Chooses the steps."""
        first, rest = state.global_step, state.max_steps - state.global_step
        self.graphs = {}
        self._steps = {first + round(part * rest / (self.count - 1)) for part in range(self.count)}

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        """Traces before the next step instead of after the last one: the Trainer's clock stands then."""
        if state.global_step in self._steps:
            self._trace(model, state)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        """Traces the finished model, at whichever step it was stopped."""
        self._trace(model, state)

    def _trace(self, model, state) -> None:
        if not state.is_world_process_zero:
            return
        with evaluation_mode(model):
            graphs = model.layer_graphs(self.input_ids.to(model.device))
        self.graphs[state.global_step] = [graph.cpu() for graph in graphs]
