"""Rows, figures and pages made of records; no physics."""
