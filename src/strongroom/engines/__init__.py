"""The machine room: the only code that runs or trains a model. No code out of a model is ever run.

What comes sealed is never written; what is trained here for figures and attacks is nobody's secret.
"""
