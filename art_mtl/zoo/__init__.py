"""Victims: models with their tasks and data, by name."""
