"""The subcommands of `vitreous brain`."""
