"""Guards against results that are wrong in silence: each runs on the user's own run, and says or refuses what it finds.

`rows`: what is trained before step 1. `steps`: losses and gradients as they come. `adapter`: the saved adapter is the one that is loaded, on the
base and through the encoder it was trained with. `endings`: the trained model ends its replies.
"""
