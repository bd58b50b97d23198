"""The tables and indexes of the specification (Database Design), in a schema of their own, with names in lower case."""

TABLES = """
create schema baseline;

create table baseline.tracking_events (
    id uuid primary key,
    partner_system_id uuid not null,
    event_name varchar(200) not null,
    event_timestamp timestamp not null,
    user_id varchar(255),
    anonymous_id varchar(255) not null,
    event_properties_json jsonb not null,
    is_valid boolean not null,
    validation_errors varchar(2000),
    correlation_id varchar(100) not null,
    created_at timestamp not null
);
create index on baseline.tracking_events (partner_system_id);
create index on baseline.tracking_events (event_name);
create index on baseline.tracking_events (event_timestamp);
create index on baseline.tracking_events (correlation_id);
create index on baseline.tracking_events (partner_system_id, event_timestamp);
-- not in the specification, but the poller needs it
create index on baseline.tracking_events (created_at);

create table baseline.tracking_events_read_model (
    id uuid primary key,
    tracking_event_id uuid not null unique,
    partner_system_id uuid not null,
    partner_id uuid not null,
    partner_name varchar(200) not null,
    system_name varchar(200) not null,
    event_name varchar(200) not null,
    event_timestamp timestamp not null,
    user_id varchar(255),
    anonymous_id varchar(255) not null,
    event_properties_json jsonb not null,
    is_valid boolean not null,
    validation_errors varchar(2000),
    correlation_id varchar(100) not null,
    processed_at timestamp not null,
    created_at timestamp not null
);
create index on baseline.tracking_events_read_model (tracking_event_id);
create index on baseline.tracking_events_read_model (partner_system_id);
create index on baseline.tracking_events_read_model (partner_id);
create index on baseline.tracking_events_read_model (event_name);
create index on baseline.tracking_events_read_model (event_timestamp);
create index on baseline.tracking_events_read_model (user_id);
create index on baseline.tracking_events_read_model (anonymous_id);
create index on baseline.tracking_events_read_model (partner_id, event_timestamp);
create index on baseline.tracking_events_read_model (partner_system_id, event_timestamp);
create index on baseline.tracking_events_read_model (event_name, event_timestamp);
"""

INSERT = """
insert into baseline.tracking_events
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""

# $1: when it was done last; what committed late is found by looking back a little, and known by its id
COPY_NEW = """
insert into baseline.tracking_events_read_model
select gen_random_uuid(), e.id, e.partner_system_id, p.id, p.name, s.name, e.event_name, e.event_timestamp, e.user_id,
       e.anonymous_id, e.event_properties_json, e.is_valid, e.validation_errors, e.correlation_id,
       now() at time zone 'utc', e.created_at
  from baseline.tracking_events e
  join write.partner_systems s on s.id = e.partner_system_id
  join write.partners p on p.id = s.partner_id
 where e.created_at > $1::timestamp - interval '5 seconds'
   and not exists (select from baseline.tracking_events_read_model r where r.tracking_event_id = e.id)
    on conflict (tracking_event_id) do nothing
"""

STATISTICS = """
select event_name, count(*) as total, count(*) filter (where is_valid) as valid
  from baseline.tracking_events_read_model
 where partner_system_id = $1
   and event_timestamp between $2 and $3
 group by event_name
"""

SYSTEM_OF_KEY = """
select s.id, s.is_active and p.is_active as is_active
  from write.api_keys k
  join write.partner_systems s on s.id = k.partner_system_id
  join write.partners p on p.id = s.partner_id
 where k.key_sha256 = $1
"""
