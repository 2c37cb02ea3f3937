"""What follows from a graph and changes nothing."""
