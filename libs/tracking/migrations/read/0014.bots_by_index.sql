-- A page of isBot=true read every event of its range, until it had found enough bots.

-- Events cannot be inserted while the index is made: the projector waits and tries again, messages queue, nothing is lost.

-- pays for: the list filtered by isBot=true; small, as few events are of bots
create index tracking_events_read_model_bot_idx
    on read.tracking_events_read_model (partner_system_id, event_timestamp, id) where is_bot;
