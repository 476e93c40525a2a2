"""Nearest neighbours: exact search, its engines, similarities."""
