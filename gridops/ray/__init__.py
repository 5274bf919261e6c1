"""A Ray cluster on the nodes of the inventory, and its jobs."""
