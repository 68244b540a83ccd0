"""A Merkle log of every act: append, prove, verify, follow."""
