"""How fast this package is beside its peers: every row measured in one process, alternating, medians.

    python -m benchmarks.speed --write

One file a group of rows; a row is data (:class:`benchmarks.speed.row.SpeedRow`).
"""
