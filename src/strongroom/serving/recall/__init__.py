"""The output filter: what repeats the training text is held back before it leaves (docs/recall.md)."""
