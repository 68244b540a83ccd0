"""The command line: one short file per group, each parses, calls once and prints."""
