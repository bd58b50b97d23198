-- Retention: what is kept how long, and from when on raw events are complete (docs/operations.md).

create table write.retention (
    is_only boolean primary key default true check (is_only),
    raw_since timestamptz not null,
    announced_at timestamptz not null default now(),
    -- rows outside the months are expired up to here
    expired_through timestamptz
);
comment on table write.retention is
    'Written by relay, read by gateway and operate; one row, or none if nothing was ever dropped. Events from before '
    'raw_since are rejected, and dropped some seconds after it was announced. raw_since never goes back.';

grant select on write.retention to tracking_gateway, tracking_operate;
grant select, update (expired_through) on write.retention to tracking_relay;

-- The time from which on events are complete moves with every month that is dropped after it has passed.
create function write.advance_raw_since(since date) returns void language sql
    security definer set search_path = pg_catalog, pg_temp as $$
    insert into write.retention as known (raw_since)
    values (since::timestamp at time zone 'UTC')
        on conflict (is_only)
        do update set raw_since = excluded.raw_since, announced_at = now()
     where known.raw_since < excluded.raw_since
$$;
comment on function write.advance_raw_since is 'Announces that events from before a day (UTC) are to be dropped.';

create or replace function write.drop_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    child text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
    next_month date := (date_trunc('month', month) + interval '1 month')::date;
begin
    if parent not in ('tracking_events', 'event_batches') then
        raise exception 'no partitioned table write.%', parent;
    end if;
    if to_regclass(format('write.%I', child)) is null then
        return false;
    end if;
    -- in the order in which an insert takes them
    execute format('lock table only write.%I in access exclusive mode', parent);
    execute format('drop table write.%I', child);
    if parent = 'tracking_events' and next_month <= now() at time zone 'UTC' then
        perform write.advance_raw_since(next_month);
    end if;
    return true;
end $$;

-- An id without a time is a name, which its owner may repeat at any time. So an expired event leaves its id behind, and
-- nothing else. A page at a time, in the order of the key.
create function write.expire_undated(after_system uuid, after_id uuid, max_rows integer,
        out last_system uuid, out last_id uuid, out expired bigint) language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    since timestamptz := (select raw_since from write.retention);
    systems uuid[];
    ids uuid[];
begin
    select array_agg(partner_system_id order by partner_system_id, id), array_agg(id order by partner_system_id, id)
      into systems, ids
      from (
            select partner_system_id, id
              from write.tracking_events
             where id < '00000000-0001-0000-0000-000000000000'
               and (partner_system_id, id) > (after_system, after_id)
             order by partner_system_id, id
             limit max_rows
           ) as page;
    last_system := systems[cardinality(systems)];
    last_id := ids[cardinality(ids)];
    update write.tracking_events as e
       set event_name = '', event_properties = '{}', context = null, user_id = null, anonymous_id = null,
           message_id = null, correlation_id = '', validation_errors = null, original_timestamp = null, sent_at = null
      from unnest(systems, ids) as page (partner_system_id, id)
     where e.partner_system_id = page.partner_system_id
       and e.id = page.id
       and e.id < '00000000-0001-0000-0000-000000000000'
       and e.event_timestamp < since
       and e.received_at < since
       and e.event_name <> '';
    get diagnostics expired = row_count;
end $$;
comment on function write.expire_undated is
    'Empties expired events whose ids have no time, up to max_rows after a key; returns the last key, null at the end.';

-- In the default partition an id has a time. If that has expired too, a repeat is rejected by its time.
create function write.expire_default(max_rows integer) returns bigint language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    since timestamptz := (select raw_since from write.retention);
    lowest uuid := write.month_floor((since at time zone 'UTC')::date);
    dropped bigint;
    emptied bigint;
begin
    delete from write.tracking_events_default
     where ctid = any (array(select ctid from write.tracking_events_default where id < lowest limit max_rows));
    get diagnostics dropped = row_count;
    update write.tracking_events_default
       set event_name = '', event_properties = '{}', context = null, user_id = null, anonymous_id = null,
           message_id = null, correlation_id = '', validation_errors = null, original_timestamp = null, sent_at = null
     where ctid = any (array(
            select ctid
              from write.tracking_events_default
             where id >= lowest and event_timestamp < since and received_at < since and event_name <> ''
             limit max_rows));
    get diagnostics emptied = row_count;
    return dropped + emptied;
end $$;
comment on function write.expire_default is
    'Deletes expired events of the default partition, and empties those whose ids lie ahead; up to max_rows of each.';

revoke execute on function write.advance_raw_since, write.expire_undated, write.expire_default from public;
grant execute on function write.advance_raw_since, write.expire_undated, write.expire_default to tracking_relay;
grant delete on write.dead_letters to tracking_relay;
