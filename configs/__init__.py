"""Settings of runs worth repeating, and the command line that takes them."""
