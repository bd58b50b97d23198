-- A dead letter may also be a batch that no message can carry (docs/decisions/0015).

alter table write.dead_letters drop constraint dead_letters_reason_check;
alter table write.dead_letters add constraint dead_letters_reason_check
    check (reason in ('unreadable', 'not_applicable', 'not_sendable', 'unknown'));
