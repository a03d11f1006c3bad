"""Values: types, messages, errors, settings, time. No I/O, no clock, nothing that can be away.

Owns the words of the project: what a series, an instrument, a message, an error *is*. Everything
here is frozen and safe to share between tasks. Fails only by raising an error of
:mod:`ravenwh.domain.errors`. Tested by tables and property tests alone.
"""
