"""The network: its weights, head, layers and what can be tapped."""
