"""Pictures, masked sets, views and shifted test sets."""
