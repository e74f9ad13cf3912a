"""One file that llama.cpp and what is built on it load: `vocabulary` (a prompt has the ids of training
there), `tensors` and `file` (the weights, streamed), `quantise` (llama.cpp's own), `measure` (it is asked
what the trained model is)."""
