"""Who changed what, when: written in the transaction of the change, sealed in signed checkpoints, verified from the first event on."""
