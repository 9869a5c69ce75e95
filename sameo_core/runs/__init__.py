"""What every run needs: a folder of its own, files written whole, where it was computed, several processes."""
