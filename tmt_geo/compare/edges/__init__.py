"""Attention among edges beside attention among nodes: problems of which it is known what they take."""
