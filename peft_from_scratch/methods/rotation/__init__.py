"""Turn the weights instead of adding to them: the change is a product with an orthogonal matrix."""
