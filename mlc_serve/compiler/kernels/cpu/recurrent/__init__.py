"""Layers that keep a state of fixed size for each sequence. A batch is of sequences of the same length, whose
rows follow one another.
"""
