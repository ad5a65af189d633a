"""What is read and written: units, profiles, models, records, data sets."""
