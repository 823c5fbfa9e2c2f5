"""Signatures of plans: ed25519 keys, and who is trusted. The only place that imports the library `cryptography`."""
