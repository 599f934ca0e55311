"""Many at once: fairness, floods, descriptors, clocks, memory over time."""
