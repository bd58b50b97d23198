-- What the workers and the relay tell each other about batches that fail.

alter table read.consumer_progress add column open_dead_letters bigint not null default 0;
comment on column read.consumer_progress.open_dead_letters is
    'Rows of write.dead_letters that wait for a decision; the worker, who may not open that database, stops at a limit.';

create table read.apply_failures (
    consumer text not null,
    batch_id uuid not null,
    error text not null,
    deliveries integer not null,
    failed_at timestamptz not null default now(),
    primary key (consumer, batch_id)
);
comment on table read.apply_failures is
    'Written by projector and statistics when a batch fails; relay copies it into the dead letter; deleted after a day.';

grant select, insert, update on read.apply_failures to tracking_projector, tracking_statistics;
grant select, delete on read.apply_failures to tracking_relay;
grant select on read.consumer_progress to tracking_projector, tracking_statistics;
