"""From a network with known shapes to a device program: what each layer computes, and which tactic runs it."""
