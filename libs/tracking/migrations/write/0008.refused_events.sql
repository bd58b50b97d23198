-- What was refused of a sender who is known: kept for a while, so that a person can see why.

create table write.refused_events (
    id uuid primary key,
    partner_system_id uuid not null,
    refused_at timestamptz not null,
    route text not null,
    -- within a batch; null: the whole request
    position integer,
    reason text not null,
    message text not null,
    faults jsonb not null,
    raw bytea,
    raw_bytes bigint not null,
    correlation_id text not null
);
-- pays for: the newest of a system, and deleting what is beyond its share
create index refused_events_system_idx on write.refused_events (partner_system_id, id);
comment on table write.refused_events is
    'Inserted and kept within bounds (1 000 a system) by gateway, aged (30 days) by relay, read by admin. raw: the first '
    '64 KiB as they came, without keys; null if the system has privacy rules, which nothing refused went through.';

grant select (id, partner_system_id), insert, delete on write.refused_events to tracking_gateway;
grant select (refused_at), delete on write.refused_events to tracking_relay;
grant select on write.refused_events to tracking_admin;
