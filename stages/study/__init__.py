"""The hyper-parameter study: many encoders of one size, trained alike, compared in accuracy, speed and stability."""
