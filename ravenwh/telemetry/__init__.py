"""What a running service tells of itself, and who holds the ports that services need.

Offers :func:`~ravenwh.telemetry.live.serve_live` (``/livez``, ``/readyz`` and ``/metrics`` on a
runner's metrics port), :class:`~ravenwh.telemetry.metrics.Metrics`, which is a Meter of
:mod:`ravenwh.ports`, and :func:`~ravenwh.telemetry.ports.port_findings`. Listens where it is told
to and nowhere else. Raises Unavailable where a port cannot be bound. Tested on real sockets.
"""
