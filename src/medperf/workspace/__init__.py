"""What this site remembers: facts in SQLite, content-addressed files, sealed steps, leases and pending submissions."""
