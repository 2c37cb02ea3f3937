"""Lexer of Pygments for the language, and its words."""
