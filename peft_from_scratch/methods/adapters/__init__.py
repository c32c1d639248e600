"""Add a little to a frozen network: small layers in it, or factors on what it computes."""
