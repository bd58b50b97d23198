-- Counts by day beside those by hour: a year has 365 times as many rows as names, not 8 760 times.

-- A worker that does not know of days yet would count by hour alone from here on.
do $$
begin
    if exists (select from read.event_counts_hourly)
       and exists (select from pg_stat_activity where usename = 'tracking_statistics' and datname = current_database()) then
        raise exception 'counts by day cannot begin while statistics workers of the version before count by hour'
            using hint = 'stop them (docker compose stop statistics, or make down), then do the same again';
    end if;
end $$;

create table read.event_counts_daily (
    partner_system_id uuid not null,
    -- in UTC
    day date not null,
    event_name text not null,
    valid bigint not null,
    invalid bigint not null,
    bots_valid bigint not null,
    bots_invalid bigint not null,
    -- pays for: statistics and totalCount of a system over whole days
    primary key (partner_system_id, day, event_name)
) with (fillfactor = 70);
comment on table read.event_counts_daily is
    'The sums of read.event_counts_hourly; upserted by statistics together with it, read by query; one row a system, '
    'day and event name.';

insert into read.event_counts_daily
select partner_system_id, (bucket at time zone 'UTC')::date, event_name, sum(valid), sum(invalid), sum(bots_valid),
       sum(bots_invalid)
  from read.event_counts_hourly
 group by 1, 2, 3;

grant select, insert, update on read.event_counts_daily to tracking_statistics;
grant select, insert, update, delete on read.event_counts_daily to tracking_operate;
grant select on read.event_counts_daily to tracking_query;
