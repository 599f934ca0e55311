"""What the process tells about itself: logs, and what must not stand in them."""
