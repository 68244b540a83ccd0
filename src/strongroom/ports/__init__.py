"""What the rooms ask of the world and of each other: protocols only, of at most five methods each."""
