-- What a partner decides for one system: origins, rate limit, what is kept of addresses and persons.

alter table write.partner_systems
    -- tracking.contracts.system_settings; {} stands for the defaults
    add column settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object');
