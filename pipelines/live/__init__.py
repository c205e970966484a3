"""What people look at while it runs: overview, lineage, partition grid, checkpoints; no scripts."""
