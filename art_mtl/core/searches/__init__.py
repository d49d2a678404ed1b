"""Searches that are made of many runs of the loop: ensembles, universal perturbations, patches."""
