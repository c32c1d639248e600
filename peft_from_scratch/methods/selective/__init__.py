"""Choose some of the weights that are there, and train those."""
