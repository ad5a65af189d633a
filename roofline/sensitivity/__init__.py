"""What would move a figure: elasticities, crossovers, and the next best changes."""
