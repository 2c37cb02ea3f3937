"""Text to checked program. Needs lark alone, never torch."""
