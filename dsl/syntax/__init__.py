"""Text to syntax tree and back: tokens, grammar, parser with error recovery, formatter."""
