"""What the score stage computes about a sample, one signal or one family of signals per module."""
