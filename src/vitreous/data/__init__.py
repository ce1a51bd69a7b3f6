"""Images, masked sets, transforms and shifted test sets."""
