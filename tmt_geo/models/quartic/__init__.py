"""The quartic family."""
