"""How our own weights are made: `python -m models.train.mask_state DATA`."""
