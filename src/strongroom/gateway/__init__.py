"""The gateway: the one door by which customers reach a model. A process of its own (`python -m strongroom.gateway`).

It holds no home and no key to one: control pushes the roster, leases token budgets, and reads the usage spool. HTTP is
spoken by `connection`, decided by the room `serving`, answered by `exchange` (docs/gateway.md).
"""
