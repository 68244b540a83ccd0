"""Marks in weights: which checkpoint a file was made from, whose copy it is, and how sure that is."""
