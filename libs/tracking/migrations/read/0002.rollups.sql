-- Counts by hour; exact, upserted in key order inside the inbox transaction.

create table read.event_counts_hourly (
    partner_system_id uuid not null,
    bucket timestamptz not null,
    event_name text not null,
    total bigint not null,
    valid bigint not null,
    invalid bigint not null,
    -- pays for: statistics and totalCount of a system over whole hours
    primary key (partner_system_id, bucket, event_name),
    check (total = valid + invalid)
) with (fillfactor = 70);
comment on table read.event_counts_hourly is
    'Upserted by statistics, read by query; one row a system, hour and event name.';

grant select, insert, update on read.event_counts_hourly to tracking_statistics;
grant select on read.event_counts_hourly to tracking_query;
