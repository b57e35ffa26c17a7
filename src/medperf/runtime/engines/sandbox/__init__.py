"""The embedded engine: Python projects with hash-locked wheels, run under bubblewrap."""
