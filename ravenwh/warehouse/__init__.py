"""PostgreSQL: everything that is written to and read from the mart.

Owns the connections, the statements and the translation of the driver's errors. Offers
:class:`~ravenwh.warehouse.write.FactSink` (messages to rows of a fact),
:class:`~ravenwh.warehouse.bar_sink.BarSink` (bars, each to the fact of its kind),
:func:`~ravenwh.warehouse.chains.replace_bars` (the bars of a whole chain),
:func:`~ravenwh.warehouse.seed.seed`, :class:`~ravenwh.warehouse.read.Warehouse` (named reads into
frames), what never came (:mod:`ravenwh.warehouse.gaps`) and what is exported
(:mod:`ravenwh.warehouse.tick_exports`), and the findings of :mod:`ravenwh.warehouse.preflight`.
Promises that a batch is committed whole or not at all (by series and day, where it reaches too many
compressed rows for one transaction: :mod:`ravenwh.warehouse.compressed`), and that any replay in
any order ends in the same rows. Raises Unavailable, TooLarge, Rejected, Refused, SchemaMismatch and
UnknownName; nothing of the driver leaves the room. Tested on a real server.
"""
