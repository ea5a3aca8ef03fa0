"""How well this package learns on real graphs, beside its peers in one harness.

    python -m benchmarks.graphs --write

The protocol, alike for every row of a suite:

- The same number of trials, an explicit list of configurations; the same epochs, patience, optimiser (Adam), seeds,
  splits and inputs. Models are as wide as brings their parameters nearest to the suite's budget, heads considered.
- A configuration is chosen by its mean validation score over the tuning seeds, which no final run uses. The suites of
  ten folds or splits choose anew in each, on a validation split of its own, by trials of fewer epochs.
- A run ends when validation has not improved for so many epochs, and its best epoch counts (ties by the loss). The
  test set is scored once for each final run, with the weights of that epoch. No trial ever sees it.
- A result holds all trials with their validation scores and all runs; its table shows the mean over the runs and the
  standard error of that mean.

Suites, a file each: `cora` (the public split, with its edges and without), `heterophilous` (nodes whose neighbors
differ), `tu` (graph classification), `shapes` (point clouds) and `bitcoin` (the sign of the next ratings in time). A
row is data (:class:`benchmarks.graphs.suite.GraphRow`).
"""
