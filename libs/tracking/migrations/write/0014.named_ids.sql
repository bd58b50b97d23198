-- A name that a sender chose for an event decides alone whether it is a repeat (docs/decisions/0016). Its event has an id
-- that begins with four ones, and lies by its hash in one of 16 parts, so that no part and none of its indexes holds more
-- than a sixteenth of the names. No event of an earlier version has such an id.

do $$
declare
    digits constant text := '0123456789abcdef';
begin
    for part in 0 .. 15 loop
        execute format(
            'create table write.%I partition of write.tracking_events for values from (%s) to (%s)',
            'tracking_events_named_' || substr(digits, part + 1, 1),
            quote_literal(rpad('f' || substr(digits, part + 1, 1), 32, '0')),
            case part when 15 then 'maxvalue' else quote_literal(rpad('f' || substr(digits, part + 2, 1), 32, '0')) end
        );
    end loop;
end $$;

-- Names are repeated at any time too, so an expired event leaves its id behind, as one with an id without a time does.
create or replace function write.expire_undated(after_system uuid, after_id uuid, max_rows integer,
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
             where (id < '00000000-0001-0000-0000-000000000000' or id >= 'f0000000-0000-0000-0000-000000000000')
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
       and (e.id < '00000000-0001-0000-0000-000000000000' or e.id >= 'f0000000-0000-0000-0000-000000000000')
       and e.event_timestamp < since
       and e.received_at < since
       and e.event_name <> '';
    get diagnostics expired = row_count;
end $$;
comment on function write.expire_undated is
    'Empties expired events whose ids have no time, up to max_rows after a key; returns the last key, null at the end.';

-- Earlier versions placed every message id by its timestamp, or in tracking_events_undated. A repeat of such an event is
-- looked for there, unless its timestamp shows that no earlier version can have stored it.
create table write.named_ids_since (since timestamptz not null);
comment on table write.named_ids_since is
    'Written by a migration, read by gateway: when names got ids of their own, if there were events before; else empty.';
insert into write.named_ids_since select now() where exists (select from write.tracking_events);

grant select on write.named_ids_since to tracking_gateway;

-- The Idempotency-Key of a request is good for that request alone: the same key with another body is refused.
create table write.idempotency_keys (
    partner_system_id uuid not null,
    -- as of an event with this name
    id uuid not null,
    -- of the body
    fingerprint uuid not null,
    created_at timestamptz not null,
    primary key (partner_system_id, id)
);
comment on table write.idempotency_keys is
    'Inserted by gateway in the transaction of the events; one row a request with the header; kept as long as names are.';

grant select, insert on write.idempotency_keys to tracking_gateway;
