"""The command line: one short file per command; it parses, calls once and prints."""
