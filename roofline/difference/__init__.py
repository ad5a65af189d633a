"""Two predictions or plans side by side: what changed, by how much, and why; parts add up to the whole."""
