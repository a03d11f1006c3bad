"""The feed room: messages on ZeroMQ sockets, and nothing else that knows ZeroMQ.

Owns the raven wire, version 1 (``docs/reference/wire.md`` is normative for it), and the sockets
it travels on.

Offers
    ``wire`` encodes and decodes frames and names topics (it needs no ZeroMQ);
    ``endpoint`` says where a socket is attached, and translates ZeroMQ's errors;
    ``subscriber`` holds ``ZmqSource``, a Source over one SUB socket a feed;
    ``publisher`` holds ``Publisher``, which stamps, sends and waits instead of dropping;
    ``monitor`` turns connects and disconnects into log lines, and tells what ZeroMQ gave up.
    Import from the modules: this package imports none of them, so that ``wire`` stays light.

Promises
    Any bytes decode to a message or to a DecodeError. A frame that was taken from a socket is
    returned to the caller, however badly it is built, and a cancelled ``receive`` takes none.
    Attaching fails with SettingsError (the endpoint cannot work) or Unavailable (it may, later);
    a feed that goes away is waited for, without end.

Tested by property tests, by the golden bytes of the wire page, and on real sockets over the
loopback: ``tests/feed``.
"""
