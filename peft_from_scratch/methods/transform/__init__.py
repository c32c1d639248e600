"""Changes of a weight that are sparse, or diagonal, after a transform: Fourier, wavelets, circular convolution."""
