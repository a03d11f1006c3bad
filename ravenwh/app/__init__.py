"""The one place that wires: settings in, running services out.

Each module is one thing that a user asks for, and builds the parts it needs from the rooms below;
the rooms do not know each other. Runners and commands call into here and wire nothing themselves.
"""
