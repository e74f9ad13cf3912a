"""From messages to ids and labels to tensors: the one encoder of training, validation and evaluation."""
