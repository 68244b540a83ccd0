"""Hot loops, compiled by numba, each beside its plain twin, which is the reference in its tests.

Nothing that serves a model imports them: the gateway reads what they made.
"""
