"""Stochastic passes: noise, where it acts, and the engines that run them."""
