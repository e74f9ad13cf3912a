"""The step loop and what watches over it."""
