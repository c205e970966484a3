"""One file per step of the road, and what the steps share: refs, manifests, commits."""
