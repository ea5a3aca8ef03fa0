"""The gate through which nodes leave."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmt_geo.nn.precise_buffers import PreciseBuffers
from tmt_geo.ops.all_ranks import rows_of_ranks
from tmt_geo.ops.checks import check_counts, check_flags, check_reals, check_rows, check_shares
from tmt_geo.ops.exit import running_quantile, stay_rate

RULES = ("fixed", "learned", "budget")


class GateOutput(NamedTuple):
    r"""What a gate returns for the nodes that reached it, all of shape :math:`(T)`.

    Attributes:
        score: :math:`w^\top x + b`; like confidence and loss, of at least float32.
        confidence: :math:`c` in :math:`[0, 1]`.
        leaves: Whether a node leaves.
        stay_prob: The probability with which it stays, in :math:`[0, 1]`, differentiable: by it the task trains the
            gate. In the type of the states, which it scales.
        loss: The gate's own loss of each node.
    """

    score: Tensor
    confidence: Tensor
    leaves: Tensor
    stay_prob: Tensor
    loss: Tensor


class Score(nn.Linear):
    """A linear map to one number, of at least float32 whatever the type of states and weights, and under autocast too.

    In bfloat16 all scores of a young gate are one number, and their nodes would leave together.
    """

    def __init__(self, channels: int):
        super().__init__(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Score states :math:`(T, F)`, shape :math:`(T, 1)`."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))


class ExitGate(PreciseBuffers):
    r"""Confidence :math:`c = \sigma(w^\top x + b)` of a state; a node whose confidence reaches the threshold leaves.

    TemporalMesh Transformer, formula 4. Three rules set the threshold :math:`\tau`:

    - ``"fixed"``: :math:`\tau` as given, 0.85 as published. At 0 every node leaves, at 1 none ever does. The loss
      is the published entropy of :math:`c`, which alone makes a gate decisive, not right: it tends to collapse.
    - ``"learned"``: :math:`\tau` is a parameter that an integral control moves until a share `rate` stays.
    - ``"budget"``: :math:`\tau` is a running quantile of :math:`c`, so that a share `rate` stays, in training and in
      use alike. It has no loss of its own. It is kept as a quantile of the score :math:`w^\top x + b`: confidences
      that have come so near to one that they round to it would all be equal, and leave together.

    The task trains :math:`w` straight through: the next update of a node that stays is scaled by
    ``1 + stay_prob - stay_prob.detach()``, which is one, but lets the loss say whether that update was worth it. The
    gate's input is detached: no gradient goes on from its score to the states.

    Args:
        channels (int): Channels of the state :math:`F`.
        rule (str): See above.
        threshold (float): :math:`\tau` of the fixed rule.
        rate (float): Share of the nodes reaching this gate that should stay, in :math:`[0, 1]`.
        momentum (float): Momentum of the running quantile or share. A small one, for confidences drift while weights
            are learned, and the threshold is behind them by ``momentum / (1 - momentum)`` steps.
        by_batch (bool): In training, let a budget gate go by the quantile of the nodes it is given, as batch norm goes
            by their mean. The share then stays in every step, however quickly scores move, but whether a node leaves
            depends on the others, later ones too.

    Shapes:
        - **input:** states :math:`(T, F)`
        - **output:** a :class:`GateOutput`

    Raises:
        ValueError: If `rule` is unknown, `threshold` no number, or `rate` or `momentum` outside :math:`[0, 1]`.

    Example:
        >>> import torch
        >>> from tmt_geo import ExitGate
        >>> gate = ExitGate(16, rule="fixed", threshold=0.85)
        >>> gate(torch.randn(5, 16)).confidence.shape
        torch.Size([5])
    """

    running: Tensor
    count: Tensor

    def __init__(
        self, channels: int, rule: str = "budget", threshold: float = 0.85, rate: float = 0.5, momentum: float = 0.2,
        by_batch: bool = False,
    ):  # fmt: skip
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"'rule' must be one of {RULES} (got {rule!r})")
        check_counts(channels=channels)
        check_reals(threshold=threshold)
        check_shares(rate=rate, momentum=momentum)
        check_flags(by_batch=by_batch)
        self.channels = channels
        self.rule = rule
        self.initial_threshold = float(threshold)
        self.rate = rate
        self.momentum = momentum
        self.by_batch = by_batch
        self.lin = Score(channels)
        self.logit = nn.Parameter(torch.empty(())) if rule == "learned" else None
        # The running threshold of the score (or share that stays), how often it was moved.
        self.register_buffer("running", torch.empty(()))
        self.register_buffer("count", torch.empty(()))
        self.reset_parameters()

    @property
    def initial_running(self) -> float:
        """No node leaves a budget gate that has seen nothing."""
        return 3e4 if self.rule == "budget" else 1.0

    def reset_parameters(self) -> None:
        """Draw the weights anew and reset the running threshold."""
        nn.init.normal_(self.lin.weight, std=0.02)
        nn.init.constant_(self.lin.bias, -2.0)  # few leave at first, as published
        if self.logit is not None:
            nn.init.zeros_(self.logit)
        nn.init.constant_(self.running, self.initial_running)
        nn.init.zeros_(self.count)

    @property
    def threshold(self) -> Tensor | float:
        r"""The :math:`\tau` in force."""
        if self.rule == "learned":
            return self.logit.sigmoid()
        return self.running.sigmoid() if self.rule == "budget" else self.initial_threshold

    def forward(self, x: Tensor, running: Tensor | None = None) -> GateOutput:
        """Score states and decide which nodes leave.

        Args:
            x (Tensor): States :math:`(T, F)`.
            running (Tensor, optional): The threshold when the step began (see :meth:`update`); it stands in for
                the module's own, so that a recomputed forward decides alike.

        Raises:
            ValueError: If `x` holds no floats, or not of :math:`F` channels.
        """
        check_rows("x", x, self.channels)
        running = self.running if running is None else running
        score = self.lin(x.detach()).squeeze(-1)  # [T]
        confidence = score.sigmoid()
        if self.rule == "fixed":
            entropy = F.softplus(score) - confidence * score
            leaves = confidence >= self.initial_threshold
            if self.initial_threshold >= 1:  # a sigmoid rounds to one: still no node leaves
                leaves = torch.zeros_like(leaves)
            return GateOutput(score, confidence, leaves, (1 - confidence).to(x.dtype), entropy)
        if self.rule == "budget":
            if self.by_batch and self.training and self.rate < 1 and score.numel():
                running = running_quantile(running, torch.zeros_like(self.count), score, self.rate, self.momentum)
            # A quantile takes back any shift of all confidences at once: spare the bias that drift.
            stay_prob = 1 - (score - self.lin.bias + self.lin.bias.detach()).sigmoid()
            return GateOutput(score, confidence, score >= running, stay_prob.to(x.dtype), torch.zeros_like(confidence))
        stay_prob = (self.logit - score).sigmoid()
        loss = (running - self.rate).detach() * stay_prob
        return GateOutput(score, confidence, score >= self.logit, stay_prob.to(x.dtype), loss)

    def statistic(self, out: GateOutput) -> Tensor:
        """What :meth:`update` needs of one forward, detached, any shape."""
        return (out.score if self.rule == "budget" else 1 - out.leaves.float()).detach()

    def update_threshold(self, statistic: Tensor) -> None:
        """Move the running threshold (or share) by one training forward; no-op if no node reached the gate.

        The buffers are replaced, never written in place: what a step has begun with stays what it was. All ranks of a
        distributed run call it together, each with the nodes that reached its own gate, and move alike.
        """
        if self.rule == "fixed" or (self.rule == "budget" and self.rate == 1):
            return  # with a rate of one no node is to leave, not even the most confident
        statistic = rows_of_ranks(statistic.flatten().to(self.running.dtype))
        if statistic.numel() == 0:
            return
        if self.rule == "budget":
            self.running = running_quantile(self.running, self.count, statistic, self.rate, self.momentum)
        else:
            self.running = torch.lerp(statistic.mean().to(self.running.dtype), self.running, self.momentum)
        self.count = self.count + 1

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.channels}, rule={self.rule!r}, rate={self.rate:.3g})"


def exit_gates(
    channels: int,
    num_layers: int,
    rule: str | None,
    budget: float = 0.5,
    threshold: float = 0.85,
    momentum: float = 0.2,
    first: int = 1,
    by_batch: bool = False,
) -> list[ExitGate]:
    """The gates of a stack, each of which keeps the same share; none without rule.

    One stands behind each layer but the last, and none before the end of layer number `first`.

    Args:
        channels (int): Channels of the states.
        num_layers (int): The number of layers.
        rule (str, optional): As of :class:`ExitGate`.
        budget (float): Mean active share of the layers under the budget and learned rules.
        threshold (float): Of the fixed rule.
        momentum (float): Of the running threshold.
        first (int): The first layer behind which nodes may leave.
        by_batch (bool): As of :class:`ExitGate`.

    Raises:
        ValueError: As of :func:`gate_rate`, or if a number is out of range, by the names of a stack's options.
    """
    check_shares(exit_budget=budget, exit_momentum=momentum)
    check_reals(exit_threshold=threshold)
    if rule is None:
        return []
    rate = gate_rate(rule, num_layers, budget, first)
    return [ExitGate(channels, rule, threshold, rate, momentum, by_batch) for _ in range(num_layers - first)]


def gate_rate(rule: str, num_layers: int, budget: float, first: int) -> float:
    """The share of the nodes reaching it that each gate of a stack should keep, by the arguments of `exit_gates`.

    Raises:
        ValueError: If the rule is unknown, there is no such layer, or no share gives that budget.
    """
    if rule not in RULES:
        raise ValueError(f"'exit_rule' must be one of {RULES} or None (got {rule!r})")
    if not isinstance(first, int) or not 1 <= first <= num_layers:
        raise ValueError(f"'exit_after' must be the number of a layer, 1 to {num_layers} (got {first!r})")
    return 1.0 if rule == "fixed" or num_layers == 1 else stay_rate(budget, num_layers, first)
