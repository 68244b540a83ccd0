"""The machine room: the only code that runs a model. No code out of a model is ever run, and nothing is written."""
