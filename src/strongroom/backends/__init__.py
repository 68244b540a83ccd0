"""One file per technology; opened by URL in wiring, never imported by a room."""
