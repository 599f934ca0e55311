"""Lines in and out of the sidecar."""
