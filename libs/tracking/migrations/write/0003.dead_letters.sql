-- Messages that a consumer gave up, kept until a person decides (docs/decisions/0006).

create table write.dead_letters (
    id uuid primary key,
    consumer text not null,
    batch_id uuid,
    is_batch boolean not null,
    message_id text,
    reason text not null check (reason in ('unreadable', 'not_applicable', 'unknown')),
    error text,
    deliveries integer not null,
    partner_system_ids uuid[] not null,
    event_ids uuid[] not null,
    body bytea not null,
    body_sha256 bytea not null check (octet_length(body_sha256) = 32),
    body_bytes bigint not null,
    first_seen_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    times integer not null default 1,
    state text not null default 'open' check (state in ('open', 'retried', 'discarded', 'applied')),
    decided_at timestamptz,
    sent_at timestamptz
);
-- pays for: the same batch given up again is the same dead letter; and the reconciler's question which it must leave alone
create unique index dead_letters_batch_key on write.dead_letters (consumer, batch_id) where batch_id is not null;
-- pays for: the same for messages that name no batch
create unique index dead_letters_body_key on write.dead_letters (consumer, body_sha256) where batch_id is null;
-- pays for: what the relay asks each second
create index dead_letters_waiting_idx on write.dead_letters (consumer) where state in ('open', 'retried');
comment on table write.dead_letters is
    'Inserted by relay, decided by admin and operate; one row a consumer and batch (or body); grows with trouble only. '
    'open: waits for a decision. retried: to be sent again, or sent (sent_at). applied: it is in the inbox after all. '
    'is_batch: a retry is made anew from write.event_batches; else the body is sent, which is then kept whole up to 1 MiB.';
comment on table write.consumer_positions is
    'Written by relay; every batch up to applied_through is proven to be in that consumer''s inbox, or is a dead letter.';

grant usage on schema write to tracking_operate;
grant select, insert, update on write.dead_letters to tracking_relay;
grant select on write.dead_letters to tracking_admin, tracking_operate;
grant update (state, decided_at, sent_at) on write.dead_letters to tracking_admin, tracking_operate;
grant select on write.partners, write.partner_systems to tracking_operate;
