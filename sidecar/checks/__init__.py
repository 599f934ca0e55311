"""What a server's words are checked for: tool definitions against their pins, results against their schemas."""
