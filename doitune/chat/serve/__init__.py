"""A model for programs that speak to OpenAI's endpoint, on this machine."""
