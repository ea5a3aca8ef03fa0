"""Killed runs against undisturbed ones."""
