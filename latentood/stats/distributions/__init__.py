"""Densities and distributions on tensors."""
