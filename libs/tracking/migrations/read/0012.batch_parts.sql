-- A batch that is too large for one message comes in parts (docs/decisions/0015).

alter table read.applied_batches add column applied_positions int4multirange;
comment on column read.applied_batches.applied_positions is
    'Positions (in the batch row) of the events that were applied, while that is only a part of the batch; null: all.';

-- A worker adds the positions of each part, a rebuild completes the batch.
grant update (applied_positions) on read.applied_batches to tracking_projector, tracking_statistics, tracking_operate;
