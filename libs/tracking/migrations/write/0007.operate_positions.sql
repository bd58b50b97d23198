-- A rebuild that finds batches in no inbox takes back what was proven of a read database that is lost.

grant select on write.consumer_positions to tracking_operate;
grant update (applied_through, updated_at) on write.consumer_positions to tracking_operate;
