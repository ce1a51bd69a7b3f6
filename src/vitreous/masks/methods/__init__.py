"""Where masks come from: one file a kind, registered by name."""
