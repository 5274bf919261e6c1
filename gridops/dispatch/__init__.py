"""From many nodes to one run: which node, its tree, its turn, its end and its results."""
