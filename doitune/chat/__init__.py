"""Talk to what was trained: in a terminal, or as a service on this machine."""
