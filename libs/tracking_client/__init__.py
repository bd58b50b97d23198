"""Sends events to a Volcanion gateway: `Tracker` from threads, `AsyncTracker` from asyncio.

`track` puts an event into a bounded queue and returns its id at once; batches leave in the background. Each event ends
in exactly one way: `on_stored` hears that it is on the gateway's disk, or `on_error` hears why it is not.

`calls` makes envelopes, `buffer` holds them, `delivery` decides what an answer means, all without IO; `exchange` speaks
HTTP; `tracker` and `async_tracker` only carry steps out.
"""

from tracking_client.async_tracker import AsyncTracker
from tracking_client.options import Options
from tracking_client.outcome import Counts, Failure, QueueFull, Stored
from tracking_client.tracker import Tracker

__all__ = ["AsyncTracker", "Counts", "Failure", "Options", "QueueFull", "Stored", "Tracker"]
