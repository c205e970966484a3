"""One reason to drop per file, the two policies that name them, and the funnel that counts."""
