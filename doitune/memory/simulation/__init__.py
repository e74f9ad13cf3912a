"""The real model code under fake tensors: the yardstick of the closed form."""
