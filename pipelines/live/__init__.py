"""What people look at while it runs: overview, lineage, partition grid, checkpoints; drawn from the store, by no script."""
