"""Measurements and their results as JSON. :mod:`benchmarks.measure` says how a row is measured."""
