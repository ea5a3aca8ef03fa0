"""Models whose tokens hold states for their pairs: the quartic family."""
