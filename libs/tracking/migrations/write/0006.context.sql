-- What SDKs say beside the event: its type, the context it was tracked in; and whether a bot sent it.

alter table write.tracking_events
    -- null stands for track, which nearly all are
    add column event_type text,
    add column context jsonb,
    add column is_bot boolean not null default false;
