"""The parser, with error recovery, and the formatter."""
