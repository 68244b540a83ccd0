"""One file per technology behind a port; chosen by URL in wiring, never imported by a room."""
