"""The maths: pure functions on tensors, without parameters or configuration.

``tmt_geo.ops.naive`` holds the same functions as loops: read those to learn what the fast ones compute.
"""
