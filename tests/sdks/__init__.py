"""The SDKs of Segment and RudderStack, as their users install them, send to the gateway."""
