"""The SDKs of Segment and RudderStack as their users install them, sending to our gateway."""
