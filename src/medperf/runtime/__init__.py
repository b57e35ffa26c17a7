"""How a container is run: manifests on disk, images, engines and the confinement policy."""
