"""Messages for unexpected tokens."""
