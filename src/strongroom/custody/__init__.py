"""Weights at rest and in memory: seal · verify · open · run.

formats, floe, keys   the documents, the segments and the envelopes of sealed@1
source, journal, seal what is to be sealed; what an attempt leaves for the next; the sealing itself
judge, read           is it the checkpoint that was asked for; verify without a key, open with one
tensors               a sealed checkpoint that feels like safetensors.safe_open
memory, memory_files  where plaintext lives; paths for programs that want one
plain                 the one way out, behind two people
registry, vault       which checkpoints exist and who holds a key; the journeys, each a sentence

The format is docs/formats/sealed-1.md, the chapter for people docs/custody.md.
"""
