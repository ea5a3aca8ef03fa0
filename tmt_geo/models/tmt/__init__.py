"""The causal language model."""
