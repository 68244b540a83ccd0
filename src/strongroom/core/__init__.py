"""Words that all rooms share: errors, ids, clock, canonical bytes, settings, secrets. No I/O."""
