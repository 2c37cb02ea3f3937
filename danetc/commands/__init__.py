"""The subcommands as functions, and the parser made from their signatures."""
