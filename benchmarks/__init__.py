"""Measurements: scripts, their results as JSON, and a log of what they said."""
