"""Sends events to a Volcanion gateway: `Tracker` from threads, `AsyncTracker` from asyncio.

`track` puts an event into a bounded queue and returns its id at once; batches are sent in the background. Each event
ends in exactly one way: `on_stored` is called when it is on the gateway's disk, or `on_error` with the reason why not.

`tracking_methods` builds envelopes, `buffer` holds them, and `delivery` decides what a response means, all without IO.
`gateway_http` speaks HTTP; `tracker` and `async_tracker` only carry out the steps.
"""

from tracking_client.async_tracker import AsyncTracker
from tracking_client.options import Options
from tracking_client.outcome import Counts, Failure, QueueFull, Stored
from tracking_client.tracker import Tracker

__all__ = ["AsyncTracker", "Counts", "Failure", "Options", "QueueFull", "Stored", "Tracker"]
