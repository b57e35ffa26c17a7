"""Files on their way to the server, in pieces that survive cuts and kills."""
