"""The bars of several profiles, made from one stream of trades as a feed brings it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec

from ravenwh.domain.errors import Refused
from ravenwh.domain.messages import Trade
from ravenwh.features.bar import Bar
from ravenwh.features.chain import Chain
from ravenwh.features.profile import Profile
from ravenwh.features.sieve import Sieve

__all__ = ["Maker"]


class _State(msgspec.Struct, kw_only=True):
    sieve: Sieve = msgspec.field(default_factory=Sieve)
    last_id: str | None = None
    is_in_doubt: bool = False
    repeated: int = 0
    chains: dict[str, bytes] = msgspec.field(default_factory=dict)


class Maker:
    """A chain for each profile, behind one look at which trades count.

    Each chain makes what it would make alone. After a restart of the publisher (``note_restart``)
    it is not known whether trades are missing. A publisher may also begin again with what it sent
    before: trades that are earlier than the latest one are then passed over, and counted as
    ``repeated``, until the last one that was taken comes again, after which nothing is missing, or
    one that is new, before which something may be.
    """

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self._state = _State()
        self._chains = {name: Chain(profile) for name, profile in profiles.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Trades so far: passed, late (those that passed), invalid, duplicate, repeated."""
        names = ("passed", "late", "invalid", "duplicate")
        counted = {name: getattr(self._state.sieve, name) for name in names}
        return counted | {"repeated": self._state.repeated}

    def push(self, trade: Trade) -> list[tuple[str, Bar]]:
        """Take one trade; the bars that it ends, with the names of their profiles."""
        state = self._state
        if state.is_in_doubt and not self._is_to_be_taken(trade):
            state.repeated += 1
            return []
        trade_id = trade.trade_id
        time = state.sieve.time_of(trade.event_time, trade.price, trade.quantity, trade_id)
        if time is None:
            return []
        state.last_id = trade_id
        if trade_id is not None:  # it is known to be new: no chain has to remember it too
            trade = msgspec.structs.replace(trade, trade_id=None)
        ended = []
        for name, chain in self._chains.items():
            bar = chain.push(trade)
            if bar is not None:
                ended.append((name, bar))
        return ended

    def note_gap(self) -> None:
        """Trades may be missing here."""
        if self._state.sieve.passed:  # before the first one nothing is
            for chain in self._chains.values():
                chain.note_gap()

    def note_restart(self) -> None:
        """The publisher, or the way to it, began anew: trades may be missing, or come again."""
        self._state.is_in_doubt = self._state.sieve.passed > 0

    def _is_to_be_taken(self, trade: Trade) -> bool:
        """Whether it is no repetition of what was before the restart; the first that is ends it."""
        state = self._state
        if trade.trade_id is not None:
            if trade.trade_id == state.last_id:
                state.is_in_doubt = False
                return True  # and is counted as the duplicate that it is
            if trade.trade_id in state.sieve.ids:
                return True
        if trade.event_time < state.sieve.latest:
            return False
        state.is_in_doubt = False
        self.note_gap()
        return True

    def save(self) -> bytes:
        """All of it, to go on from this trade; up to 100 kB where trades have ids."""
        self._state.chains = {name: chain.save() for name, chain in self._chains.items()}
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restored(cls, profiles: Mapping[str, Profile], saved: bytes) -> Self:
        """The maker as it was saved; chains of profiles that it did not have begin here.

        Raises Refused where a profile has other parameters than its chain.
        """
        try:
            state = msgspec.msgpack.decode(saved, type=_State)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"the saved state of bars cannot be read: {error}") from error
        maker = cls(profiles)
        maker._state = state
        for name, profile in profiles.items():
            if name in state.chains:
                try:
                    maker._chains[name] = Chain.restored(profile, state.chains[name])
                except Refused as error:
                    raise Refused(f"profile {name}: {error}") from None
        return maker
