"""One attack per theft, each naming the guard that it measures, with and without."""
