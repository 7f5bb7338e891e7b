"""How peers that take more than a line are set up."""
