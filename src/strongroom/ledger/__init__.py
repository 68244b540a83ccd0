"""A Merkle log of every act: append, prove, verify, follow. See docs/ledger.md and docs/formats/ledger-1.md."""
