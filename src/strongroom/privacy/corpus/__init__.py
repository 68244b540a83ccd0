"""Documents of a corpus, from files and folders: JSON lines, parquet, plain text; gzip and zstd around text."""
