"""The models of the paper, under their official weight names."""
