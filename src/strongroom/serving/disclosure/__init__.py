"""Disclosure: what an answer may give away beside its text, by tier, and which requests are refused for it."""
