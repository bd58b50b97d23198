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

-- Each link is walked once, so that neither a long chain nor a circle takes long. A recursive query would join anew for
-- each step of a chain, and for a circle it has no end to begin at.
create function read.final_users(system_id uuid) returns table (id text, final_user_id text)
    language plpgsql stable parallel restricted
    set search_path = pg_catalog, pg_temp
    -- the plans must know how long the arrays are
    set plan_cache_mode = force_custom_plan
    set enable_nestloop = off as $$
#variable_conflict use_column
declare
    -- links to a user who became another one in turn, numbered in the order of their ids
    all_ids text[];
    all_users text[];
    -- the number of the next such link; null at the end of a chain
    following integer[];
    -- where it ends: the number of the last one, of a circle that of its first one, negative
    endings integer[];
    walks integer[];
    place integer;
    entry integer;
    ending integer;
begin
    select array_agg(link.id order by link.id collate "C"), array_agg(link.user_id order by link.id collate "C")
      into all_ids, all_users
      from read.identities as link
      join read.identities as further
        on further.partner_system_id = system_id and further.kind = 'user' and further.id = link.user_id
     where link.partner_system_id = system_id and link.kind = 'user';
    select array_agg(there.number order by here.number)
      into following
      from unnest(all_users) with ordinality as here (id, number)
      left join unnest(all_ids) with ordinality as there (id, number) on there.id = here.id;
    endings := array_fill(null::integer, array[coalesce(cardinality(all_ids), 0)]);
    walks := endings;
    for start in 1 .. coalesce(cardinality(all_ids), 0) loop
        place := start;
        while endings[place] is null and walks[place] is distinct from start loop
            walks[place] := start;
            exit when following[place] is null;
            place := following[place];
        end loop;
        ending := coalesce(endings[place], place);
        if endings[place] is null and following[place] is not null then
            -- this walk has been here before: all the way round once more, for the first id
            entry := place;
            place := following[entry];
            while place <> entry loop
                ending := least(ending, place);
                place := following[place];
            end loop;
            ending := -ending;
        end if;
        place := start;
        while endings[place] is null loop
            endings[place] := ending;
            exit when following[place] is null;
            place := following[place];
        end loop;
    end loop;
    return query
        select link.id, case when chain.ending < 0 then final.id else coalesce(last.user_id, link.user_id) end
          from read.identities as link
          left join unnest(all_ids, endings) as chain (id, ending) on chain.id = link.id
          left join unnest(all_ids, all_users) with ordinality as final (id, user_id, number)
            on final.number = abs(chain.ending)
          left join read.identities as last
            on last.partner_system_id = system_id and last.kind = 'user' and last.id = final.user_id
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
