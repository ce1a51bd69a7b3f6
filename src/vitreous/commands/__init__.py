"""One module a command; each holds a dataclass `Command` whose fields are its options.

A module whose options depend on what is typed (`mask`: on the method) has a function
`command_type(arguments)` beside it, which gives the dataclass to parse. Modules import torch, and
what needs it, when the command runs: `--help` answers at once.
"""
