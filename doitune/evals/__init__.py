"""What a model is asked, how its replies are read, and what they score."""
