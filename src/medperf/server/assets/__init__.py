"""Files the server hosts, so that nobody needs a web host."""
