-- Partitions are made and dropped while a dump is running and events are coming in (docs/operations.md).

-- Both functions need a lock that a dump, which holds ACCESS SHARE on every table to its end, does not let them have.
-- A statement that waits for such a lock makes all inserts wait. So they wait for 50 ms, then raise lock_not_available,
-- and the caller comes again.

create function write.prepare_partition(parent text, month date, max_rows integer) returns bigint language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    first_day date := date_trunc('month', month)::date;
    child text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
    low uuid := write.month_floor(first_day);
    high uuid := write.month_floor((first_day + interval '1 month')::date);
    copied bigint;
begin
    if parent not in ('tracking_events', 'event_batches') then
        raise exception 'no partitioned table write.%', parent;
    end if;
    if exists (select from pg_inherits where inhrelid = to_regclass(format('write.%I', child))) then
        return 0;
    end if;
    if to_regclass(format('write.%I', child)) is null then
        execute format('create table write.%I (like write.%I including all, constraint %I check (id >= %L and id < %L))',
            child, parent, child || '_month', low, high);
    end if;
    execute format('insert into write.%I select waiting.* from write.%I as waiting where id >= %L and id < %L '
        'and not exists (select from write.%I as known where known.id = waiting.id and %s) limit %L',
        child, parent || '_default', low, high, child,
        case parent when 'tracking_events' then 'known.partner_system_id = waiting.partner_system_id' else 'true' end,
        max_rows);
    get diagnostics copied = row_count;
    return copied;
end $$;
comment on function write.prepare_partition is
    'Makes the table of a month beside the others, and copies rows of the default partition to it, at most so many a '
    'call; returns how many. Nobody sees the copies before create_partition attaches the table.';

create or replace function write.create_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    first_day date := date_trunc('month', month)::date;
    child text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
    low uuid := write.month_floor(first_day);
    high uuid := write.month_floor((first_day + interval '1 month')::date);
    same text := case parent when 'tracking_events' then 'known.partner_system_id = waiting.partner_system_id' else 'true' end;
begin
    perform write.prepare_partition(parent, month, 0);
    if exists (select from pg_inherits where inhrelid = to_regclass(format('write.%I', child))) then
        return false;
    end if;
    execute format('lock table only write.%I in share update exclusive mode', parent);
    execute format('lock table write.%I in access exclusive mode', parent || '_default');
    -- a copy whose original was changed or deleted since
    execute format('delete from write.%I as known where not exists (select from write.%I as waiting '
        'where waiting.id = known.id and %s and waiting is not distinct from known)', child, parent || '_default', same);
    execute format('insert into write.%I select waiting.* from write.%I as waiting where id >= %L and id < %L '
        'and not exists (select from write.%I as known where known.id = waiting.id and %s)',
        child, parent || '_default', low, high, child, same);
    execute format('delete from write.%I where id >= %L and id < %L', parent || '_default', low, high);
    -- the check says the same as the bounds, so the rows are not read again
    execute format('alter table write.%I attach partition write.%I for values from (%L) to (%L)', parent, child, low, high);
    execute format('alter table write.%I drop constraint %I', child, child || '_month');
    return true;
end $$;

create or replace function write.drop_partition(parent text, month date) returns boolean language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    child text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
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
    return true;
end $$;

revoke execute on function write.prepare_partition from public;
grant execute on function write.prepare_partition to tracking_relay;
grant select on write.event_batches_default to tracking_relay;
