"""The feed room: messages on ZeroMQ sockets, and nothing else that knows ZeroMQ.

Owns the raven wire, version 1 (``docs/reference/wire.md`` is normative for it), and the sockets
it travels on.

Offers
    ``wire`` encodes and decodes frames and names topics (it needs no ZeroMQ);
    ``cryptofeed`` does the same for the frames of cryptofeed, and only reads them;
    ``endpoint`` says where a socket is attached, and translates ZeroMQ's errors;
    ``subscriber`` holds ``ZmqSource``, a Source over one SUB socket a feed;
    ``publisher`` holds ``Publisher``, which stamps, sends and waits instead of dropping;
    ``monitor`` turns connects and disconnects into log lines, and tells what ZeroMQ gave up;
    ``ring`` keeps what a publisher sent last, ``resending`` answers for it;
    ``control`` has the requests as values, ``control_server`` and ``control_client`` the two ends,
    ``collecting`` what a runner has to say to them; ``resender`` is a Resender over clients;
    ``curve`` has the keys of an endpoint, and lets in who is known.
    Import from the modules: this package imports none of them, so that ``wire`` stays light.

Promises
    Any bytes decode to a message or to a DecodeError. A frame that was taken from a socket is
    returned to the caller, however badly it is built, and a cancelled ``receive`` takes none.
    Attaching fails with SettingsError (the endpoint cannot work) or Unavailable (it may, later);
    a feed that goes away is waited for, without end. Any request is answered, and a flood of them
    takes a share of the time and no memory; of an encrypted endpoint strangers get nothing.

Tested by property tests, by the golden bytes of the wire page, and on real sockets over the
loopback: ``tests/feed``.
"""
