"""Weights at rest and in memory: seal · verify · open · run.

floe         segments of a megabyte                                   formats      the documents of sealed@1
keys         data keys and their envelopes                              judge        is it the one that was asked for
source       what is to be sealed                                       seal         write, take up again
read         verify, open                                               memory_files for programs that want a path
tensors      a sealed checkpoint that feels like safetensors.safe_open

The format is docs/formats/sealed-1.md, the chapter for people docs/custody.md.
"""
