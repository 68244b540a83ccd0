"""The window index: which runs of words a corpus has, without a word of it (docs/formats/windows-1.md)."""
