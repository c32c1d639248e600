"""Rows of the contract's table, by group of methods."""
