"""One file per technology. Opened by URL through wiring, never imported by a room."""
