"""The subcommands: one file each, thin; what they do is in ``danetc.tasks``."""
