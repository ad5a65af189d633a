"""Planning: from traffic and service levels to devices and dollars. Search, ranking, money, and what would help."""
