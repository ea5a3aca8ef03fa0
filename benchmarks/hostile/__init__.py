"""Tampered folders, bad command lines and illegal calls, and what becomes of them."""
