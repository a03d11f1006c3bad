"""The one worker that takes frames from feeds to a sink, whatever they carry.

Owns the order of things: journal first, then decode, then batch, then commit, then acknowledge;
and what did not come is asked for again, or noted as a gap. Knows ports only: no socket, no
database, no file. Offers :class:`Worker`; for klines :class:`Finality` and :class:`Cadence`; and
:class:`Silence`, which tells who does not speak. Promises that every frame it received is written,
or counted as folded, unchanged, dead, ignored or lost, or still in the journal. Raises what its
parts raise on purpose and nothing it can mend by waiting. Tested with real sockets, a real journal
and a real database, and with a sink that fails as asked.
"""

from ravenwh.ingest.cadence import Cadence
from ravenwh.ingest.finality import Finality
from ravenwh.ingest.limits import Counts, Limits
from ravenwh.ingest.silence import Silence
from ravenwh.ingest.worker import Worker

__all__ = ["Cadence", "Counts", "Finality", "Limits", "Silence", "Worker"]
