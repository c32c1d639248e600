"""Several low-rank changes at one site, mixed by the data, by the task, or by a gate that reads the whole model."""
