-- Events and batches, by month of the 48 time bits in their ids; no foreign keys, partner system first in every key.

create table write.tracking_events (
    partner_system_id uuid not null,
    id uuid not null,
    event_name text not null,
    event_timestamp timestamptz not null,
    original_timestamp timestamptz,
    sent_at timestamptz,
    received_at timestamptz not null,
    user_id text,
    anonymous_id text,
    message_id text,
    event_properties jsonb not null,
    schema_version integer,
    is_valid boolean not null,
    validation_errors jsonb,
    clock_adjusted boolean not null,
    correlation_id text not null,
    primary key (partner_system_id, id)
) partition by range (id);
comment on table write.tracking_events is
    'Inserted by gateway, read by relay; append-only; grows with traffic; a month is dropped whole by retention.';

create table write.event_batches (
    id uuid primary key,
    created_at timestamptz not null,
    partner_system_ids uuid[] not null,
    event_ids uuid[] not null,
    published_at timestamptz,
    check (cardinality(partner_system_ids) = cardinality(event_ids))
) partition by range (id);
create index event_batches_unpublished_idx on write.event_batches (id) where published_at is null;
comment on table write.event_batches is
    'Inserted by gateway with its events, marked published by gateway or relay; a claim check: the n-th event is '
    '(partner_system_ids[n], event_ids[n]).';

create table write.consumer_positions (
    consumer text primary key,
    applied_through uuid not null,
    updated_at timestamptz not null
);
comment on table write.consumer_positions is
    'Written by relay; every batch up to applied_through is proven to be in that consumer''s inbox.';

create table write.tracking_events_undated partition of write.tracking_events
    for values from (minvalue) to ('00000000-0001-0000-0000-000000000000');
create table write.tracking_events_default partition of write.tracking_events default;
create table write.event_batches_default partition of write.event_batches default;

create function write.month_floor(month date) returns uuid language sql immutable strict
    set search_path = pg_catalog as $$
    select (lpad(to_hex((extract(epoch from month::timestamp at time zone 'UTC') * 1000)::bigint), 12, '0')
        || repeat('0', 20))::uuid
$$;
comment on function write.month_floor is 'The smallest UUIDv7/v8 of the first millisecond of a month (UTC).';

create function write.create_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    first_day date := date_trunc('month', month)::date;
    child text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
    low uuid := write.month_floor(first_day);
    high uuid := write.month_floor((first_day + interval '1 month')::date);
begin
    if parent not in ('tracking_events', 'event_batches') then
        raise exception 'no partitioned table write.%', parent;
    end if;
    if to_regclass(format('write.%I', child)) is not null then
        return false;
    end if;
    execute format('create table write.%I (like write.%I including all)', child, parent);
    -- rows that came before their partition wait in the default one; attaching would fail on them
    execute format('with moved as (delete from write.%I where id >= %L and id < %L returning *) insert into write.%I '
        'select * from moved', parent || '_default', low, high, child);
    execute format('alter table write.%I attach partition write.%I for values from (%L) to (%L)', parent, child, low, high);
    return true;
end $$;
comment on function write.create_partition is 'Creates the partition of a month unless it is there; true if it was created.';

create function write.drop_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    child text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
begin
    if parent not in ('tracking_events', 'event_batches') then
        raise exception 'no partitioned table write.%', parent;
    end if;
    if to_regclass(format('write.%I', child)) is null then
        return false;
    end if;
    execute format('drop table write.%I', child);
    return true;
end $$;
comment on function write.drop_partition is 'Retention: drops the partition of a month whole; true if there was one.';

revoke execute on function write.create_partition, write.drop_partition from public;
grant execute on function write.create_partition, write.drop_partition to tracking_relay;
grant execute on function write.month_floor to tracking_relay;

grant select, insert on write.tracking_events to tracking_gateway;
grant select, insert on write.event_batches to tracking_gateway;
grant update (published_at) on write.event_batches to tracking_gateway, tracking_relay;
grant select on write.tracking_events, write.event_batches, write.tracking_events_default to tracking_relay;
grant select, insert, update on write.consumer_positions to tracking_relay;
