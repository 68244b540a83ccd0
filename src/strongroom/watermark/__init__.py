"""A mark in the sampling of answers that names the account they were sold to: choose · detect · attribute.

prf        the keyed words that a mark is made of: SipHash-2-4 per context, SplitMix64 per token
arrays     the little of the array API that both sides use, typed
gumbel     the draw (choose, Marker) and its score
keys       one key per account and epoch, derived, committed to before use
detect     score and exact p-value of a text under one key
attribute  which account's key, over all that were tried; a verdict, never a bare yes
common     five-token runs that many texts share, left out so that p-values hold for every key
calibrate  false-alarm rates per key on harmless texts

The format is docs/formats/mark-1.md, the chapter for people docs/watermark.md.
"""
