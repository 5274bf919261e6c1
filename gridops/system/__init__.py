"""The craft of this machine; knows nothing of grids, and raises no error of ours."""
