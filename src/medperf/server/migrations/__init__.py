"""The database's history, shipped with the package and run by it."""
