-- What changed about credentials, numbered in the order of the commits. Processes that cache credentials read it several
-- times a second, so that no cached entry outlives the truth, whatever happens to Redis.

create sequence write.credential_generations as bigint;

create table write.credential_changes (
    generation bigint primary key,
    changed_at timestamptz not null,
    -- which entries changed: that of one key or token, or all of one partner system or partner
    key_sha256 bytea,
    token_sha256 bytea,
    partner_system_id uuid,
    partner_id uuid
);
comment on table write.credential_changes is
    'Written by triggers, whoever changes a credential or its owner; read by gateway, query and admin; the newest 10 000.';

-- Runs at the end of the transaction. The lock is held until the commit is visible, so numbers rise in the order of the
-- commits: whoever has read number n has read every change up to it. 7236405 is CREDENTIAL_CHANGES_LOCK (infra/postgres).
create function write.record_credential_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    changed record;
    next_generation bigint;
begin
    if tg_op = 'DELETE' then
        changed := old;
    else
        changed := new;
    end if;
    perform pg_advisory_xact_lock(7236405);
    next_generation := nextval('write.credential_generations');
    if tg_table_name = 'api_keys' then
        insert into write.credential_changes (generation, changed_at, key_sha256)
        values (next_generation, clock_timestamp(), changed.key_sha256);
    elsif tg_table_name = 'access_tokens' then
        insert into write.credential_changes (generation, changed_at, token_sha256)
        values (next_generation, clock_timestamp(), changed.token_sha256);
    elsif tg_table_name = 'partner_systems' then
        insert into write.credential_changes (generation, changed_at, partner_system_id)
        values (next_generation, clock_timestamp(), changed.id);
    else
        insert into write.credential_changes (generation, changed_at, partner_id)
        values (next_generation, clock_timestamp(), changed.id);
    end if;
    delete from write.credential_changes where generation <= next_generation - 10000;
    return null;
end $$;
revoke all on function write.record_credential_change from public;

create constraint trigger api_keys_change
    after insert or delete or update of partner_system_id, key_sha256, expires_at, revoked_at on write.api_keys
    deferrable initially deferred for each row execute function write.record_credential_change();

create constraint trigger access_tokens_change
    after insert or delete or update of token_sha256, scope, partner_id, expires_at, revoked_at on write.access_tokens
    deferrable initially deferred for each row execute function write.record_credential_change();

create constraint trigger partner_systems_change
    after update of partner_id, name, settings, is_active on write.partner_systems
    deferrable initially deferred for each row execute function write.record_credential_change();

create constraint trigger partners_change
    after update of name, is_active on write.partners
    deferrable initially deferred for each row execute function write.record_credential_change();

-- the first number, so that the table is never empty
insert into write.credential_changes (generation, changed_at)
values (nextval('write.credential_generations'), now());

grant select on write.credential_changes to tracking_admin, tracking_gateway, tracking_query;
-- query asks for the truth about a token where it is written, and sees nothing else of the write database
grant usage on schema write to tracking_query;
grant select (token_sha256, scope, partner_id, expires_at, revoked_at) on write.access_tokens to tracking_query;
grant select (id, is_active) on write.partners to tracking_query;
