"""How good relevance maps are: each metric a small function with its paper's equation."""
