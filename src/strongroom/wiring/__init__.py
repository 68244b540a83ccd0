"""Settings and URLs to objects: the only place that builds things."""
