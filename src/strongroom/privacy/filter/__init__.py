"""What must not be trained on, taken out: personal data and secrets, repeats, documents of a deny list."""
