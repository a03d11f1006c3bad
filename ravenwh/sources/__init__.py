"""Messages that come from no feed: Binance Vision files, and a simulated market.

Owns the reading of recorded files and the pace at which they are sent; knows no socket. Offers

- :mod:`~ravenwh.sources.catalog`: which files the arguments stand for, and what they hold;
- :mod:`~ravenwh.sources.vision`: whether a file is whole, and its messages, as a stream;
- :mod:`~ravenwh.sources.trades`: the trades of one symbol from several files, in order;
- :mod:`~ravenwh.sources.rows`: one line of a file to one message, pure;
- :mod:`~ravenwh.sources.simulator`: a synthetic market that is the same each time it is asked;
- :mod:`~ravenwh.sources.request`, :mod:`~ravenwh.sources.replay`,
  :mod:`~ravenwh.sources.report`: what to send; sending it, at a pace, through a ``publish`` that is
  given; and what was sent.

Promises: a file is read as a stream, never held; a file that is damaged or that is not what its
name or its checksum says raises ``Refused`` before the first message of the replay is sent; a bad
row is named by file, line and reason, skipped and counted, and the rest is sent; the same file
gives the same messages each time, ``event_time`` included. Tested on every recorded file against an
independent reading of it, on damaged files, and with arbitrary bytes.
"""
