"""Text to a syntax tree and back: tokens, grammar, parser with recovery, formatter."""
