-- The roles, the database and the grants of the lab: what Lifeboat needs of a real PostgreSQL, and nothing more.
-- Passwords are set by the lab, one per role, before anything listens.

create role replicator login replication;
create role app login;
create role heartbeat login;
create role lifeboat_probe login;
create role lifeboat_act login;

-- Looks: it sees every statistics view, and can neither promote, nor read files, nor run programs.
grant pg_monitor to lifeboat_probe;

-- Acts: promote, reload, pause, end sessions; close the database (as a member of its owner); reset what would make commits hang.
grant pg_monitor, pg_signal_backend, app to lifeboat_act;
grant set, alter system on parameter synchronous_standby_names to lifeboat_act;
grant set, alter system on parameter default_transaction_read_only to lifeboat_act;

create database orders owner app;

\connect orders
\i :objects

create table public.orders (
  id bigint primary key,
  placed_at timestamptz not null default clock_timestamp()
);
alter table public.orders owner to app;
grant select on public.orders to lifeboat_probe, lifeboat_act, heartbeat;

\connect postgres
\i :objects
