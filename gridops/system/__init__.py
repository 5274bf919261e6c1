"""Processes, files, scripts and text on this machine; knows nothing of grids."""
