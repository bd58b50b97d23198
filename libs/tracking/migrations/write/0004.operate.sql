-- What a rebuild of the read model reads.

grant usage on schema write to tracking_operate;
grant select on write.event_batches, write.tracking_events to tracking_operate;
grant select (id, partner_id, name) on write.partner_systems to tracking_operate;
grant select (id, name) on write.partners to tracking_operate;
