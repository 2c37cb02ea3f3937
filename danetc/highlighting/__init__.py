"""Pygments lexer of the language, and its word lists."""
