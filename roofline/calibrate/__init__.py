"""From measured records to the parameters of a device."""
