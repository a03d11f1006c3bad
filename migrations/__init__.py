"""The migrations of the mart, written for the home schema name ``mart``."""
