"""The paper's benchmarks: where their data lies, how each is measured, and what the paper reports."""
