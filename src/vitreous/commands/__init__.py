"""One module a command; each holds a dataclass `Command` whose fields are its options."""
