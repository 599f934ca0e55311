"""What servers ask and tell."""
