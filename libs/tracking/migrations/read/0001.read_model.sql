-- The denormalised events that analytics read, and the inbox that makes them exactly once.

create schema read;

create table read.tracking_events_read_model (
    partner_system_id uuid not null,
    id uuid not null,
    partner_id uuid not null,
    partner_name text not null,
    system_name text not null,
    event_name text not null,
    event_timestamp timestamptz not null,
    original_timestamp timestamptz,
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
    processed_at timestamptz not null,
    -- pays for: the list of a system by time and its pages, and the ragged hours of statistics
    primary key (partner_system_id, event_timestamp, id)
) partition by range (event_timestamp);
-- pays for: GET /api/events/{id}
create index tracking_events_read_model_id_idx on read.tracking_events_read_model (id);
-- pays for: the list filtered by eventName
create index tracking_events_read_model_name_idx
    on read.tracking_events_read_model (partner_system_id, event_name, event_timestamp, id);
-- pays for: the list filtered by userId
create index tracking_events_read_model_user_idx
    on read.tracking_events_read_model (partner_system_id, user_id, event_timestamp, id) where user_id is not null;
-- pays for: the list filtered by anonymousId
create index tracking_events_read_model_anonymous_idx
    on read.tracking_events_read_model (partner_system_id, anonymous_id, event_timestamp, id)
    where anonymous_id is not null;
-- pays for: the list filtered by correlationId; the events of a request share an entry (B-tree deduplication)
create index tracking_events_read_model_correlation_idx
    on read.tracking_events_read_model (partner_system_id, correlation_id);
-- pays for: the list filtered by isValid=false; small, as few events are invalid
create index tracking_events_read_model_invalid_idx
    on read.tracking_events_read_model (partner_system_id, event_timestamp, id) where not is_valid;
comment on table read.tracking_events_read_model is
    'Inserted by projector, read by query; one row an event, names as they were; grows with traffic.';

create table read.tracking_events_read_model_default partition of read.tracking_events_read_model default;

create table read.applied_batches (
    batch_id uuid not null,
    consumer text not null,
    applied_at timestamptz not null default now(),
    primary key (batch_id, consumer)
) partition by range (batch_id);
create table read.applied_batches_default partition of read.applied_batches default;
comment on table read.applied_batches is
    'The inbox: inserted by projector and statistics with their effect, read by relay; one row a batch and consumer.';

create table read.range_versions (
    partner_system_id uuid not null,
    day date not null,
    consumer text not null,
    version bigint not null,
    primary key (partner_system_id, day, consumer)
) with (fillfactor = 70);
comment on table read.range_versions is
    'Raised by projector and statistics with each change to a system''s day (UTC); query trusts a cached answer only while '
    'the versions of its range stand still.';

create table read.consumer_progress (
    consumer text primary key,
    applied_through timestamptz not null,
    pending_batches bigint not null,
    observed_at timestamptz not null
);
comment on table read.consumer_progress is
    'Written by relay each second, read by query: everything committed before applied_through is visible.';

create table read.partner_systems (
    id uuid primary key,
    partner_id uuid not null,
    name text not null,
    updated_at timestamptz not null
);
comment on table read.partner_systems is 'Copied by relay from the write database; tells query whose system an id is.';

create table read.access_tokens (
    token_sha256 bytea primary key,
    id uuid not null,
    scope text not null,
    partner_id uuid,
    expires_at timestamptz,
    revoked_at timestamptz,
    updated_at timestamptz not null
);
comment on table read.access_tokens is 'Copied by relay from the write database; query''s fallback when the cache is empty.';

create function read.create_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    first_day date := date_trunc('month', month)::date;
    next_day date := (first_day + interval '1 month')::date;
    child text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
    key text;
    low text;
    high text;
begin
    if to_regclass(format('read.%I', child)) is not null then
        return false;
    end if;
    if parent = 'tracking_events_read_model' then
        key := 'event_timestamp';
        low := to_char(first_day, 'YYYY-MM-DD') || ' 00:00:00+00';
        high := to_char(next_day, 'YYYY-MM-DD') || ' 00:00:00+00';
    elsif parent = 'applied_batches' then
        key := 'batch_id';
        low := read.month_floor(first_day)::text;
        high := read.month_floor(next_day)::text;
    else
        raise exception 'no partitioned table read.%', parent;
    end if;
    execute format('create table read.%I (like read.%I including all)', child, parent);
    -- rows that came before their partition wait in the default one; attaching would fail on them
    execute format('with moved as (delete from read.%I where %I >= %L and %I < %L returning *) insert into read.%I '
        'select * from moved', parent || '_default', key, low, key, high, child);
    execute format('alter table read.%I attach partition read.%I for values from (%L) to (%L)', parent, child, low, high);
    return true;
end $$;
comment on function read.create_partition is 'Creates the partition of a month unless it is there; true if it was created.';

create function read.month_floor(month date) returns uuid language sql immutable strict
    set search_path = pg_catalog as $$
    select (lpad(to_hex((extract(epoch from month::timestamp at time zone 'UTC') * 1000)::bigint), 12, '0')
        || repeat('0', 20))::uuid
$$;
comment on function read.month_floor is 'The smallest UUIDv7/v8 of the first millisecond of a month (UTC).';

create function read.drop_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    child text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
begin
    if parent not in ('tracking_events_read_model', 'applied_batches') then
        raise exception 'no partitioned table read.%', parent;
    end if;
    if to_regclass(format('read.%I', child)) is null then
        return false;
    end if;
    execute format('drop table read.%I', child);
    return true;
end $$;
comment on function read.drop_partition is 'Retention: drops the partition of a month whole; true if there was one.';

revoke execute on function read.create_partition, read.drop_partition from public;
grant execute on function read.create_partition, read.drop_partition to tracking_relay;
grant usage on schema read to tracking_projector, tracking_statistics, tracking_relay, tracking_query;
grant insert on read.tracking_events_read_model to tracking_projector;
grant select, insert on read.applied_batches to tracking_projector, tracking_statistics;
grant select, insert, update on read.range_versions to tracking_projector, tracking_statistics;
grant select on read.applied_batches, read.tracking_events_read_model_default to tracking_relay;
grant select, insert, update on read.consumer_progress, read.partner_systems, read.access_tokens to tracking_relay;
grant select on read.tracking_events_read_model, read.range_versions, read.consumer_progress, read.partner_systems,
    read.access_tokens to tracking_query;
