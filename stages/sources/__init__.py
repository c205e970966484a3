"""Where samples come from: the procedural scenes, their loopback web, and how rows are named."""
