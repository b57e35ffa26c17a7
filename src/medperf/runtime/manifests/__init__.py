"""MLCubes on this machine: manifests and the files they name."""
