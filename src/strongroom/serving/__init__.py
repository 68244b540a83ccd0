"""Serving: who may ask a model what, how much of it, and what is written down about it.

`accounts`, `keys` and `terms` say who a customer is; `wire` reads and writes OpenAI's format; `admit` decides; `limits`
holds the budgets; `usage` is what the ledger is told. The front door that speaks HTTP is `strongroom.gateway`.
"""
