-- Retention: what is kept how long, and from when on raw events and counts are complete (docs/operations.md).

create table read.retention (
    is_only boolean primary key default true check (is_only),
    raw_since timestamptz,
    counts_since timestamptz
);
comment on table read.retention is
    'Written by relay, read by query and operate; one row, or none if nothing was ever dropped. Neither time goes back.';

grant select on read.retention to tracking_query, tracking_operate;
grant select on read.retention to tracking_relay;

create function read.advance_retention(raw date, counts date) returns void language sql
    security definer set search_path = pg_catalog, pg_temp as $$
    insert into read.retention as known (raw_since, counts_since)
    values (raw::timestamp at time zone 'UTC', counts::timestamp at time zone 'UTC')
        on conflict (is_only)
        do update set raw_since = greatest(known.raw_since, excluded.raw_since),
                      counts_since = greatest(known.counts_since, excluded.counts_since)
     where known.raw_since is distinct from greatest(known.raw_since, excluded.raw_since)
        or known.counts_since is distinct from greatest(known.counts_since, excluded.counts_since)
$$;
comment on function read.advance_retention is
    'Says that events, and counts, from before these days (UTC) are to be dropped; null leaves the time as it is.';

create or replace function read.drop_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    child text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
    next_month date := (date_trunc('month', month) + interval '1 month')::date;
begin
    if parent not in ('tracking_events_read_model', 'applied_batches') then
        raise exception 'no partitioned table read.%', parent;
    end if;
    if to_regclass(format('read.%I', child)) is null then
        return false;
    end if;
    -- in the order in which an insert takes them
    execute format('lock table only read.%I in access exclusive mode', parent);
    execute format('drop table read.%I', child);
    if parent = 'tracking_events_read_model' and next_month <= now() at time zone 'UTC' then
        perform read.advance_retention(next_month, null);
    end if;
    return true;
end $$;

create function read.expire_default(max_rows integer) returns bigint language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    since timestamptz := (select raw_since from read.retention);
    dropped bigint;
begin
    delete from read.tracking_events_read_model_default
     where ctid = any (array(
            select ctid from read.tracking_events_read_model_default where event_timestamp < since limit max_rows));
    get diagnostics dropped = row_count;
    return dropped;
end $$;
comment on function read.expire_default is 'Deletes up to max_rows expired events of the default partition.';

create function read.expire_counts(system_id uuid, max_rows integer) returns bigint language plpgsql
    security definer set search_path = pg_catalog, pg_temp as $$
declare
    since timestamptz := (select counts_since from read.retention);
    since_day date := (since at time zone 'UTC')::date;
    dropped bigint;
    total bigint := 0;
begin
    delete from read.event_counts_hourly
     where ctid = any (array(
            select ctid from read.event_counts_hourly where partner_system_id = system_id and bucket < since limit max_rows));
    get diagnostics dropped = row_count;
    total := total + dropped;
    delete from read.event_counts_daily
     where ctid = any (array(
            select ctid from read.event_counts_daily where partner_system_id = system_id and day < since_day limit max_rows));
    get diagnostics dropped = row_count;
    total := total + dropped;
    delete from read.range_versions
     where ctid = any (array(
            select ctid from read.range_versions where partner_system_id = system_id and day < since_day limit max_rows));
    get diagnostics dropped = row_count;
    return total + dropped;
end $$;
comment on function read.expire_counts is
    'Deletes expired counts and versions of a system, up to max_rows of each table; returns how many.';

-- A link is needed as long as there is an event of the id, or another link leads to it.
create function read.expire_links(after_system uuid, after_kind text, after_id text, max_rows integer,
        out last_system uuid, out last_kind text, out last_id text, out expired bigint) language plpgsql
    security definer set search_path = pg_catalog, pg_temp
    -- the planner knows little of a new month, and would rather read it whole
    set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
declare
    since timestamptz := (select raw_since from read.retention);
    systems uuid[];
    kinds text[];
    ids text[];
    gone uuid[];
begin
    select array_agg(partner_system_id order by partner_system_id, kind, id),
           array_agg(kind order by partner_system_id, kind, id),
           array_agg(id order by partner_system_id, kind, id)
      into systems, kinds, ids
      from (
            select partner_system_id, kind, id
              from read.identities
             where (partner_system_id, kind, id) > (after_system, after_kind, after_id)
             order by partner_system_id, kind, id
             limit max_rows
           ) as page;
    last_system := systems[cardinality(systems)];
    last_kind := kinds[cardinality(kinds)];
    last_id := ids[cardinality(ids)];
    with expired_links as (
        delete from read.identities as link
         using unnest(systems, kinds, ids) as candidate (partner_system_id, kind, id)
         where link.partner_system_id = candidate.partner_system_id
           and link.kind = candidate.kind
           and link.id = candidate.id
           and link.linked_at < since
           and not exists (
                select
                  from read.tracking_events_read_model as e
                 where link.kind = 'anonymous'
                   and read.text_key(e.partner_system_id, e.anonymous_id) = read.text_key(link.partner_system_id, link.id)
                   and e.anonymous_id = link.id
                   and e.event_timestamp >= since
               )
           and not exists (
                select
                  from read.tracking_events_read_model as e
                 where link.kind = 'user'
                   and read.text_key(e.partner_system_id, e.user_id) = read.text_key(link.partner_system_id, link.id)
                   and e.user_id = link.id
                   and e.event_timestamp >= since
               )
           and not exists (
                select
                  from read.identities as further
                 where link.kind = 'user'
                   and further.partner_system_id = link.partner_system_id
                   and further.user_id = link.id
               )
        returning link.partner_system_id
    )
    select array_agg(partner_system_id) into gone from expired_links;
    expired := coalesce(cardinality(gone), 0);
    insert into read.identity_versions as known (partner_system_id, version)
    select distinct system_id, 1 from unnest(gone) as changed (system_id)
        on conflict (partner_system_id) do update set version = known.version + 1;
end $$;
comment on function read.expire_links is
    'Deletes expired links of ids without events, up to max_rows after a key; returns the last key, null at the end.';

revoke execute on function read.advance_retention, read.expire_default, read.expire_counts, read.expire_links from public;
grant execute on function read.advance_retention, read.expire_default, read.expire_counts, read.expire_links
    to tracking_relay;
