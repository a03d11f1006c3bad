"""What a running service tells of itself, and who holds the ports that services need.

Offers :func:`~ravenwh.telemetry.live.serve_live` (``GET /livez`` on a runner's metrics port) and
:func:`~ravenwh.telemetry.ports.port_findings`. Listens where it is told to and nowhere else.
Raises Unavailable where a port cannot be bound. Tested on real sockets.
"""
