-- Which visitor became which user; why it is kept as links and followed when asked: docs/decisions/0009.

create table read.identities (
    partner_system_id uuid not null,
    -- of id: an alias does not say which it is, so it makes a row of each
    kind text not null check (kind in ('anonymous', 'user')),
    id text not null,
    user_id text not null,
    linked_at timestamptz not null,
    event_id uuid not null,
    -- pays for: the lookup before a link is written, and all links of a system in uniqueActors with mergeIdentities
    primary key (partner_system_id, kind, id) include (user_id)
);
-- pays for: the ids that became a user, in the list of events with mergeIdentities
create index identities_user_idx on read.identities (partner_system_id, user_id, kind, id);
comment on table read.identities is
    'Upserted by projector and operate, read by query; this id became that user, by the earliest event (linked_at, '
    'event_id) that says so; one row a system, kind and id; grows with visitors that sign in.';

create table read.identity_versions (
    partner_system_id uuid primary key,
    version bigint not null
) with (fillfactor = 70);
comment on table read.identity_versions is
    'Raised by projector and operate with each change to a system''s links, which may change the actors of any day; '
    'query trusts a cached number of merged actors only while it stands still.';

-- Doubles the distance it looks ahead with each round, so that neither a long chain nor a circle takes long.
create function read.final_users(system_id uuid) returns table (id text, final_user_id text)
    language plpgsql stable parallel restricted
    set search_path = pg_catalog, pg_temp
    -- the plans must know how long the arrays are
    set plan_cache_mode = force_custom_plan
    set enable_nestloop = off as $$
#variable_conflict use_column
declare
    -- links to a user who became another one in turn: where they lead as far as is known; the smallest id on the way
    all_ids text[];
    all_ahead text[];
    all_least text[];
    distance bigint := 1;
    goes_on boolean;
begin
    select array_agg(link.id), array_agg(link.user_id), array_agg(link.id)
      into all_ids, all_ahead, all_least
      from read.identities as link
      join read.identities as further
        on further.partner_system_id = system_id and further.kind = 'user' and further.id = link.user_id
     where link.partner_system_id = system_id and link.kind = 'user';
    loop
        select bool_or(true)
          into goes_on
          from unnest(all_ahead) as here (id)
          join unnest(all_ids) as there (id) using (id);
        exit when goes_on is null or distance > cardinality(all_ids);
        select array_agg(here.id),
               array_agg(coalesce(there.ahead, here.ahead)),
               array_agg(least(here.least, there.least))
          into all_ids, all_ahead, all_least
          from unnest(all_ids, all_ahead, all_least) as here (id, ahead, least)
          left join unnest(all_ids, all_ahead, all_least) as there (id, ahead, least) on there.id = here.ahead;
        distance := distance * 2;
    end loop;
    return query
        select link.id, coalesce(circle.least, last.user_id, link.user_id)
          from read.identities as link
          left join unnest(all_ids, all_ahead) as chain (id, ahead) on chain.id = link.id
          left join unnest(all_ids, all_least) as circle (id, least) on circle.id = chain.ahead
          left join read.identities as last
            on last.partner_system_id = system_id and last.kind = 'user' and last.id = chain.ahead
         where link.partner_system_id = system_id and link.kind = 'user';
end $$;
comment on function read.final_users is
    'For each user id of a system that became another: the one at the end of the chain; of a circle, its smallest id.';

alter table read.rebuilds
    drop constraint rebuilds_phase_check,
    add constraint rebuilds_phase_check check (phase in ('links', 'batches', 'hours', 'done', 'given up')),
    add column repaired_links bigint not null default 0,
    add column deleted_links bigint not null default 0;

revoke execute on function read.final_users from public;
grant execute on function read.final_users to tracking_query;
grant select, insert, update on read.identities, read.identity_versions to tracking_projector, tracking_operate;
grant delete on read.identities to tracking_operate;
grant select on read.identities, read.identity_versions to tracking_query;
