-- What `python -m services.operate rebuild read-model` remembers, so that it goes on where it was interrupted.

create table read.rebuilds (
    id uuid primary key,
    -- as asked for; null = from the first batch, up to the last one there was
    from_time timestamptz,
    to_time timestamptz,
    deletes_strays boolean not null,
    phase text not null check (phase in ('batches', 'hours', 'done', 'given up')),
    position uuid not null,
    through uuid not null,
    total_batches bigint not null,
    done_batches bigint not null default 0,
    done_events bigint not null default 0,
    repaired_events bigint not null default 0,
    missing_events bigint not null default 0,
    failed_batches uuid[] not null default '{}',
    total_hours bigint not null default 0,
    done_hours bigint not null default 0,
    repaired_counts bigint not null default 0,
    deleted_strays bigint not null default 0,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table read.rebuilds is
    'Written and read by operate; one row a rebuild; every batch of the range up to position is rebuilt.';

create table read.rebuild_hours (
    partner_system_id uuid not null,
    bucket timestamptz not null,
    primary key (partner_system_id, bucket)
);
comment on table read.rebuild_hours is
    'Written by operate: hours whose counts a rebuild has still to compare with the events; empty when none is at work.';

grant usage on schema read to tracking_operate;
grant execute on function read.create_partition to tracking_operate;
grant select, insert, delete on read.tracking_events_read_model to tracking_operate;
grant select, insert on read.applied_batches to tracking_operate;
grant select, insert, update on read.range_versions to tracking_operate;
grant select, insert, update, delete on read.event_counts_hourly to tracking_operate;
grant select, insert, update on read.rebuilds to tracking_operate;
grant select, insert, delete on read.rebuild_hours to tracking_operate;
