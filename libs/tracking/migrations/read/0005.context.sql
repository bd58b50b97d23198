-- Type, context and bots in what analytics read; statistics leave bots out unless they are asked for.

alter table read.tracking_events_read_model
    -- null stands for track, which nearly all are
    add column event_type text,
    add column context jsonb,
    add column is_bot boolean not null default false;

alter table read.event_counts_hourly
    -- beside total, valid and invalid, which count no bots
    add column bots_valid bigint not null default 0,
    add column bots_invalid bigint not null default 0;
