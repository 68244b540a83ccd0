"""Docs can't lie: pages against the code, commands as written, links, hops."""
