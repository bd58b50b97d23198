-- Partners, their systems and keys, event structures, access tokens, and what changed.
-- Roles exist before this runs (tracking.migrations creates them).

create schema write;

create table write.partners (
    id uuid primary key,
    name text not null check (char_length(name) between 1 and 200),
    email text not null check (char_length(email) between 3 and 255),
    is_active boolean not null,
    deactivated_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create unique index partners_email_key on write.partners (lower(email));
create index partners_created_at_idx on write.partners (created_at, id);
comment on table write.partners is 'Written by admin, read by gateway and relay; one row a customer; never deleted.';

create table write.partner_systems (
    id uuid primary key,
    partner_id uuid not null references write.partners (id),
    name text not null check (char_length(name) between 1 and 200),
    type integer not null check (type in (1, 2, 3, 4, 5, 6, 99)),
    description text not null default '' check (char_length(description) <= 1000),
    is_active boolean not null,
    deactivated_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index partner_systems_partner_id_idx on write.partner_systems (partner_id, created_at, id);
create index partner_systems_created_at_idx on write.partner_systems (created_at, id);
comment on table write.partner_systems is 'Written by admin, read by gateway and relay; one row a source of events; never deleted.';

create table write.api_keys (
    id uuid primary key,
    partner_system_id uuid not null references write.partner_systems (id),
    name text not null check (char_length(name) between 1 and 200),
    key_sha256 bytea not null unique check (octet_length(key_sha256) = 32),
    prefix text not null,
    last_four text not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
create index api_keys_partner_system_id_idx on write.api_keys (partner_system_id, created_at, id);
comment on table write.api_keys is 'Written by admin (last_used_at by gateway, at most once a minute a key); only the SHA-256 of a key is kept.';

create table write.event_structures (
    id uuid primary key,
    partner_id uuid references write.partners (id),
    event_name text not null check (char_length(event_name) between 1 and 200),
    description text not null default '' check (char_length(description) <= 1000),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint event_structures_name_key unique nulls not distinct (partner_id, event_name)
);
create index event_structures_created_at_idx on write.event_structures (created_at, id);
comment on table write.event_structures is
    'Written by admin, read by gateway; partner_id null = global, else the partner''s own structure, which wins.';

create table write.event_structure_versions (
    structure_id uuid not null references write.event_structures (id),
    version integer not null check (version >= 1),
    schema jsonb not null,
    status text not null check (status in ('draft', 'published', 'deprecated')),
    created_at timestamptz not null,
    published_at timestamptz,
    deprecated_at timestamptz,
    primary key (structure_id, version)
);
comment on table write.event_structure_versions is
    'Written by admin, read by gateway; a schema is immutable once published (trigger below).';

create function write.refuse_schema_change() returns trigger language plpgsql as $$
begin
    raise exception 'version % of structure % is %; its schema is immutable',
        old.version, old.structure_id, old.status using errcode = 'integrity_constraint_violation';
end $$;

create trigger event_structure_versions_immutable
    before update of schema on write.event_structure_versions
    for each row when (old.status <> 'draft' and old.schema is distinct from new.schema)
    execute function write.refuse_schema_change();

create table write.access_tokens (
    id uuid primary key,
    name text not null check (char_length(name) between 1 and 200),
    token_sha256 bytea not null unique check (octet_length(token_sha256) = 32),
    prefix text not null,
    last_four text not null,
    scope text not null check (scope in ('admin', 'read')),
    partner_id uuid references write.partners (id),
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    updated_at timestamptz not null,
    check (scope = 'read' or partner_id is null)
);
create index access_tokens_created_at_idx on write.access_tokens (created_at, id);
comment on table write.access_tokens is
    'Written by admin, copied to the read database by relay; partner_id null = all partners; only the SHA-256 is kept.';

create table write.domain_events (
    id uuid primary key,
    name text not null,
    occurred_at timestamptz not null,
    payload jsonb not null,
    correlation_id text not null,
    delivered_at timestamptz
);
create index domain_events_undelivered_idx on write.domain_events (id) where delivered_at is null;
comment on table write.domain_events is
    'Written by admin in the transaction of the change; delivered to the cache after it, again until it worked; the audit trail.';

grant usage on schema write to tracking_admin, tracking_gateway, tracking_relay;
grant select, insert, update on write.partners, write.partner_systems, write.api_keys, write.event_structures,
    write.event_structure_versions, write.access_tokens to tracking_admin;
grant select, insert on write.domain_events to tracking_admin;
grant update (delivered_at) on write.domain_events to tracking_admin;
grant select on write.partners, write.partner_systems, write.api_keys, write.event_structures,
    write.event_structure_versions to tracking_gateway;
grant update (last_used_at) on write.api_keys to tracking_gateway;
grant select on write.partners, write.partner_systems, write.access_tokens to tracking_relay;
