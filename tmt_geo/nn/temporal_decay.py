"""Learned decay of an edge's weight with the time it spans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmt_geo.ops.checks import check_counts, check_positive, check_real
from tmt_geo.ops.decay import log_decay, published_decay

FORMS = ("log", "published")


class TemporalDecay(nn.Module):
    r"""One decay a head, in one of two forms.

    ``"log"``: :math:`g_h(\Delta t) = \exp(-r_h\,|\Delta t|)` with :math:`r_h = \mathrm{softplus}(\rho_h) > 0`, taken
    inside the softmax as :math:`\log g_h`: monotone, 1 at no distance. The rates start out as a geometric series over
    the heads, from `rate` down to `rate` / 256, so that some heads reach far and some do not (the slopes of ALiBi).

    ``"published"``: the factor :math:`\sigma(w_h\,|\Delta t|)` after the softmax (TemporalMesh Transformer, eq. 3),
    every :math:`w_h` starting at `rate`.

    Args:
        heads (int): The number of heads :math:`H`.
        form (str): ``"log"`` or ``"published"``.
        rate (float): See above, positive, in one over the unit of time.

    Shapes:
        - **input:** time between target and source, any shape :math:`(*)`, in the user's unit
        - **output:** :math:`(*, H)`: log weights for ``"log"``, factors for ``"published"``

    Raises:
        ValueError: If `form` is unknown or `rate` is not positive.

    Example:
        >>> import torch
        >>> from tmt_geo import TemporalDecay
        >>> decay = TemporalDecay(heads=2)
        >>> decay(torch.tensor([0, 1, 2])).shape
        torch.Size([3, 2])
    """

    def __init__(self, heads: int, form: str = "log", rate: float = 1.0):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"'form' must be one of {FORMS} (got {form!r})")
        check_counts(heads=heads)
        check_positive(rate=rate)
        self.heads = heads
        self.form = form
        self.rate = rate
        self.weight = nn.Parameter(torch.empty(heads))
        self.reset_parameters()

    def initial_weight(self) -> Tensor:
        """The values the parameter starts from, shape :math:`(H)`."""
        if self.form == "published":
            return torch.full((self.heads,), float(self.rate))
        rate = torch.tensor([self.rate * 2 ** (-8 * h / max(self.heads - 1, 1)) for h in range(self.heads)])
        return rate + (-torch.expm1(-rate)).log()  # the inverse of softplus

    def reset_parameters(self) -> None:
        """Start anew from :meth:`initial_weight`."""
        with torch.no_grad():
            self.weight.copy_(self.initial_weight())

    @property
    def scalars(self) -> Tensor:
        """Each head's :math:`r_h` or :math:`w_h`, of at least float32, shape :math:`(H)`."""
        weight = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))
        return weight if self.form == "published" else nn.functional.softplus(weight)

    @property
    def neutral(self) -> float:
        """The term that leaves a weight as it is."""
        return 1.0 if self.form == "published" else 0.0

    def terms(self, lag: Tensor, temporal: Tensor | None = None) -> dict[str, Tensor]:
        """The decay as the keyword that the attention operators take: ``bias`` or ``gain``.

        Args:
            lag (Tensor): Time between target and source of each edge, any shape.
            temporal (Tensor, optional): Which of the edges decay, boolean, of that shape. (default: all)
        """
        decay = self(lag)
        if temporal is not None:
            decay = decay.masked_fill(~temporal.unsqueeze(-1), self.neutral)
        return {"gain" if self.form == "published" else "bias": decay}

    def factor(self, lag: Tensor) -> Tensor:
        """The factor on the weight of an edge in either form, shape :math:`(*, H)`."""
        return self(lag) if self.form == "published" else self(lag).exp()

    def forward(self, lag: Tensor) -> Tensor:
        """Decay of each head for each time difference, integer or float, in the type of the weights.

        It is computed in at least float32, as bfloat16 would round 257 steps to 256.

        Raises:
            ValueError: If `lag` is no tensor of real numbers.
        """
        check_real(lag=lag)
        scalars = self.scalars
        lag = lag.to(scalars.dtype)  # differences of timestamps are small enough for float32, timestamps are not
        decay = (published_decay if self.form == "published" else log_decay)(lag, scalars)
        return decay.to(self.weight.dtype)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.heads}, form={self.form!r}, rate={self.rate})"


def decay_resolver(decay: str | TemporalDecay | None, heads: int) -> TemporalDecay | None:
    """The decay that the option `decay` of an attention with so many heads names or is.

    Raises:
        ValueError: If it names no form, or is a decay of another number of heads.
    """
    if isinstance(decay, str) and decay in FORMS:
        return TemporalDecay(heads, decay)
    if not isinstance(decay, TemporalDecay | None):
        raise ValueError(f"'decay' must be one of {FORMS}, a TemporalDecay or None (got {decay!r})")
    if decay is not None and decay.heads != heads:
        raise ValueError(f"'decay' must have the {heads} heads of the attention (got {decay.heads})")
    return decay
