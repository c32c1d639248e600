"""Write the change to a matrix with far fewer numbers than the matrix has."""
