"""The cryptofeed wire: frames of cryptofeed's ZeroMQ backend, 2.4 to 3.0, turned into our messages.

cryptofeed is a process of its own, that connects a PUB socket to an endpoint that we bind; see
``docs/how-to/cryptofeed.md``. A frame is one part, ``EXCHANGE-key-SYMBOL {json}``, or
``key {json}`` where it was told to use static keys; it comes here as topic and payload without the
space between them.

Offers
    ``topics`` says what to subscribe to, and what a topic names;
    ``decoder`` holds ``CryptofeedDecoder``, a Decoder;
    ``payloads`` are the JSON objects as cryptofeed writes them, ``orders`` its order-by-order
    books. Neither is of use elsewhere.

Promises
    Any bytes become a message, None for what is no data of ours, DecodeError, or UnknownSymbol.
    Exchange, symbol and time of a message are in our words: a venue's row, its own symbol, and
    nanoseconds. Needs no ZeroMQ.

Tested on every recorded frame, by hand-written frames for each quirk, and by property tests.
"""
