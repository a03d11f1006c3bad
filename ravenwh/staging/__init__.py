"""InfluxDB v2: where raw ticks wait.

Owns the measurements, the identity of a point, line protocol, and the way to a bucket and back.

Offers
    :data:`~ravenwh.staging.measurements.MEASUREMENTS` and ``STREAMS``, what goes where;
    :class:`~ravenwh.staging.server.Server`, the InfluxDB of the settings, which the others take;
    :class:`~ravenwh.staging.books.BestPrices`, a Decoder that turns order books into best prices;
    :class:`~ravenwh.staging.sink.TickSink`, a Sink for messages of all measurements;
    :class:`~ravenwh.staging.reading.Ticks`, which reads frames and messages back;
    :class:`~ravenwh.staging.track.TickTrack`, stored ticks for a replay to send;
    :func:`~ravenwh.staging.export.written_day`, a day as a file, and
    :mod:`~ravenwh.staging.days`, which days are over and which are about to go;
    :func:`~ravenwh.staging.bucket.make_bucket` and ``look_at_bucket``: findings of init and doctor.

Promises
    A message is one point however often it is written, and no other message's
    (:mod:`~ravenwh.staging.identity`). A message that can be no point is Rejected and says why.
    What may heal, or what a person must mend, is Unavailable, and the batch is held; what each
    answer means stands in one table (:mod:`~ravenwh.staging.answers`). A read raises Refused and
    UnknownName for what cannot be asked; the file of an export is there whole or not at all.
    Nothing of the HTTP library leaves the room.

Tested against a real InfluxDB, behind a shim that makes every fault that an answer can be.
"""
