"""Recovery: what comes back by itself, what rests, what is closed for want of use."""
