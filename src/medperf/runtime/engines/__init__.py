"""Engines: what runs a container under the confinement policy."""
