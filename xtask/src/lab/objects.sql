-- What Lifeboat keeps in a database it looks after: a schema of its own, and one narrow door to the timeline history.

create schema lifeboat;
grant usage on schema lifeboat to public;
grant create on schema lifeboat to heartbeat, lifeboat_act;
alter role heartbeat set search_path = lifeboat, public;

-- Whatever the heartbeat writes, the probe may read and the promotion's proof may write.
alter default privileges for role heartbeat grant select on tables to lifeboat_probe;
alter default privileges for role heartbeat grant select, insert, update, delete on tables to lifeboat_act;
alter default privileges for role heartbeat grant usage, select on sequences to lifeboat_act;

-- pg_read_file would let the probe read pg_hba.conf and the password hashes in pg_authid's own file, because every file
-- below the data directory is open to whoever may execute it. This reads history files only.
create function lifeboat.timeline_history(timeline integer) returns text
language sql volatile strict security definer set search_path = pg_catalog
as $$ select pg_read_file('pg_wal/' || lpad(upper(to_hex(timeline)), 8, '0') || '.history', 0, 65536, true) $$;
revoke all on function lifeboat.timeline_history(integer) from public;
grant execute on function lifeboat.timeline_history(integer) to lifeboat_probe, lifeboat_act;

-- What acting needs. The right to execute a function belongs to one database: without this line there, promoting is refused.
grant execute on function pg_promote(boolean, integer) to lifeboat_act;
grant execute on function pg_reload_conf() to lifeboat_act;
grant execute on function pg_wal_replay_pause() to lifeboat_act;
grant execute on function pg_wal_replay_resume() to lifeboat_act;
grant execute on function pg_terminate_backend(integer, bigint) to lifeboat_act;
grant execute on function pg_read_file(text) to lifeboat_act;
grant execute on function pg_switch_wal() to lifeboat_act;
