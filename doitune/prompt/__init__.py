"""From messages to ids and labels to tensors. `encode` is the one encoder of training, validation and
evaluation."""

from doitune.prompt.encode import encode as encode
