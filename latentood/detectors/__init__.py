"""Latents become a state, a state and latents become scores: one family per file."""
