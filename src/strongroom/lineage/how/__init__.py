"""How a suspect was derived: what was done to it after it left the checkpoint that it was aligned with."""
