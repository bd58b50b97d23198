-- Partitions are made and dropped while a dump is running and events are coming in (docs/operations.md).

-- Both functions need a lock that a dump, which holds ACCESS SHARE on every table to its end, does not let them have.
-- A statement that waits for such a lock makes all inserts wait. So they wait for 200 ms, then raise lock_not_available,
-- and the caller comes again.

create function read.prepare_partition(parent text, month date, max_rows integer) returns bigint language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    first_day date := date_trunc('month', month)::date;
    next_day date := (first_day + interval '1 month')::date;
    child text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
    is_inbox boolean := parent = 'applied_batches';
    key text := case when is_inbox then 'batch_id' else 'event_timestamp' end;
    low text := case when is_inbox then read.month_floor(first_day)::text else format('%s 00:00:00+00', first_day) end;
    high text := case when is_inbox then read.month_floor(next_day)::text else format('%s 00:00:00+00', next_day) end;
    same text := case when is_inbox then 'known.batch_id = waiting.batch_id and known.consumer = waiting.consumer'
        else 'known.partner_system_id = waiting.partner_system_id and known.event_timestamp = waiting.event_timestamp '
            'and known.id = waiting.id' end;
    copied bigint;
begin
    if parent not in ('tracking_events_read_model', 'applied_batches') then
        raise exception 'no partitioned table read.%', parent;
    end if;
    if exists (select from pg_inherits where inhrelid = to_regclass(format('read.%I', child))) then
        return 0;
    end if;
    if to_regclass(format('read.%I', child)) is null then
        execute format('create table read.%I (like read.%I including all, constraint %I check (%I >= %L and %I < %L))',
            child, parent, child || '_month', key, low, key, high);
    end if;
    execute format('insert into read.%I select waiting.* from read.%I as waiting where %I >= %L and %I < %L '
        'and not exists (select from read.%I as known where %s) limit %L',
        child, parent || '_default', key, low, key, high, child, same, max_rows);
    get diagnostics copied = row_count;
    return copied;
end $$;
comment on function read.prepare_partition is
    'Makes the table of a month beside the others, and copies rows of the default partition to it, at most so many a '
    'call; returns how many. Nobody sees the copies before create_partition attaches the table.';

create or replace function read.create_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    first_day date := date_trunc('month', month)::date;
    next_day date := (first_day + interval '1 month')::date;
    child text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
    is_inbox boolean := parent = 'applied_batches';
    key text := case when is_inbox then 'batch_id' else 'event_timestamp' end;
    low text := case when is_inbox then read.month_floor(first_day)::text else format('%s 00:00:00+00', first_day) end;
    high text := case when is_inbox then read.month_floor(next_day)::text else format('%s 00:00:00+00', next_day) end;
    same text := case when is_inbox then 'known.batch_id = waiting.batch_id and known.consumer = waiting.consumer'
        else 'known.partner_system_id = waiting.partner_system_id and known.event_timestamp = waiting.event_timestamp '
            'and known.id = waiting.id' end;
begin
    perform read.prepare_partition(parent, month, 0);
    if exists (select from pg_inherits where inhrelid = to_regclass(format('read.%I', child))) then
        return false;
    end if;
    execute format('lock table only read.%I in share update exclusive mode', parent);
    execute format('lock table read.%I in access exclusive mode', parent || '_default');
    -- a copy whose original was changed or deleted since
    execute format('delete from read.%I as known where not exists (select from read.%I as waiting '
        'where %s and waiting is not distinct from known)', child, parent || '_default', same);
    execute format('insert into read.%I select waiting.* from read.%I as waiting where %I >= %L and %I < %L '
        'and not exists (select from read.%I as known where %s)',
        child, parent || '_default', key, low, key, high, child, same);
    execute format('delete from read.%I where %I >= %L and %I < %L', parent || '_default', key, low, key, high);
    -- the check says the same as the bounds, so the rows are not read again
    execute format('alter table read.%I attach partition read.%I for values from (%L) to (%L)', parent, child, low, high);
    execute format('alter table read.%I drop constraint %I', child, child || '_month');
    return true;
end $$;

create or replace function read.drop_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    child text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
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
    return true;
end $$;

revoke execute on function read.prepare_partition from public;
grant execute on function read.prepare_partition to tracking_relay;
