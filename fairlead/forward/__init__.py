"""The shared-prefix forward: block layout, its attention, and log-probs in tiles."""
