"""TimescaleDB and Alembic: what the server can do, and which revision it is at.

Knows nothing of ravenwh: no table, no setting. Offers :func:`~ravenwh.timescale.level.detect` (the
engine level of a server, by one query) and :mod:`~ravenwh.timescale.revision` (the revision of a
database against the heads of a migration folder). Tested on real servers.
"""
