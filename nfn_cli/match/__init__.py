"""match/: whether networks are the same up to their symmetry group, and how they are brought into one frame. No torch."""
