"""What to say about a token that cannot stand where it stands."""
