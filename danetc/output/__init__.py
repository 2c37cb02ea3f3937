"""What is printed, plotted and written for people to read."""
