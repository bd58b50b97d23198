-- Earlier versions wrote the first moment of year 1 as -infinity and the last one of year 9999 as infinity wherever
-- asyncpg sent the time. Events themselves go by COPY and were right; rollups, links and what a rebuild wrote were not.
-- Both are the only times that were ever written so, which makes every row unambiguous. original_timestamp is left
-- alone, since it is read as the moment it was written for; a rebuild sees no difference.

-- what a rebuild wrote a second time
delete from read.tracking_events_read_model as doubled
 using read.tracking_events_read_model as event
 where doubled.event_timestamp in ('-infinity', 'infinity')
   and event.event_timestamp in ('0001-01-01 00:00:00+00', '9999-12-31 23:59:59.999999+00')
   and event.partner_system_id = doubled.partner_system_id
   and event.id = doubled.id;
-- what it wrote into an empty read database
update read.tracking_events_read_model
   set event_timestamp = '0001-01-01 00:00:00+00'
 where event_timestamp = '-infinity';
update read.tracking_events_read_model
   set event_timestamp = '9999-12-31 23:59:59.999999+00'
 where event_timestamp = 'infinity';

with moved as (
    delete from read.event_counts_hourly where bucket = '-infinity' returning *
)
insert into read.event_counts_hourly as known
       (partner_system_id, bucket, event_name, total, valid, invalid, bots_valid, bots_invalid)
select partner_system_id, '0001-01-01 00:00:00+00', event_name, total, valid, invalid, bots_valid, bots_invalid
  from moved
    on conflict (partner_system_id, bucket, event_name)
    do update set total = known.total + excluded.total,
                  valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid,
                  bots_valid = known.bots_valid + excluded.bots_valid,
                  bots_invalid = known.bots_invalid + excluded.bots_invalid;

with moved as (
    delete from read.event_counts_daily where day = '-infinity' returning *
)
insert into read.event_counts_daily as known
       (partner_system_id, day, event_name, valid, invalid, bots_valid, bots_invalid)
select partner_system_id, '0001-01-01', event_name, valid, invalid, bots_valid, bots_invalid
  from moved
    on conflict (partner_system_id, day, event_name)
    do update set valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid,
                  bots_valid = known.bots_valid + excluded.bots_valid,
                  bots_invalid = known.bots_invalid + excluded.bots_invalid;

-- A version only has to grow, and none of these can be below one that a cache holds.
with moved as (
    delete from read.range_versions where not isfinite(day) returning *
)
insert into read.range_versions as known (partner_system_id, day, consumer, version)
select partner_system_id,
       case when day = '-infinity' then date '0001-01-01' else date '9999-12-31' end,
       consumer,
       version + 1
  from moved
    on conflict (partner_system_id, day, consumer)
    do update set version = known.version + excluded.version;

update read.identities set linked_at = '0001-01-01 00:00:00+00' where linked_at = '-infinity';
update read.identities set linked_at = '9999-12-31 23:59:59.999999+00' where linked_at = 'infinity';
delete from read.rebuild_hours where not isfinite(bucket);
