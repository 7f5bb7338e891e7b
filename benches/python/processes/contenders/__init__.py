"""Each file is one way to use a broker: ``publish`` in one process, ``consume`` in another.

``consume`` calls ``ready`` when everything published from then on reaches it, and ``handled`` with
the payload of each event, before it acknowledges that; it returns when ``handled`` says that all
have come. ``publish`` takes ``paced``: events per second, or as fast as it can.
"""
