"""The contract in proto/, played against the real process."""
