"""The programs of the warehouse: each parses, logs, makes one call, and ends with a code."""
