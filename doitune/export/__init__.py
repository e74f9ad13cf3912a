"""Take the result away, with a proof that it is the trained model."""
