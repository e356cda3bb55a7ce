"""DBOS beside Lifeboat: so many workflows at once, each with so many durable steps that do nothing. What it is told and says is in
../README.md. On PostgreSQL with its defaults where Debian's package is installed, else on SQLite; the name that it gives says which."""

import asyncio
import glob
import json
import os
import pwd
import subprocess
import sys
from importlib.metadata import version
from time import perf_counter

from dbos import DBOS


def say(what):
    print(json.dumps(what), flush=True)


@DBOS.step()
async def noop():
    return 1


@DBOS.workflow()
async def chain(steps: int) -> int:
    done = 0
    for _ in range(steps):
        done += await noop()
    return done


class Postgres:
    """A database server of its own, reached by a socket in its folder. It refuses to run as root."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder
        self.run_as = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.run_as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        self.do("initdb", "-D", f"{folder}/pg", "-U", "bench", "-A", "trust")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=200"
        self.do("pg_ctl", "-D", f"{folder}/pg", "-w", "-l", f"{folder}/log", "-o", options, "start")
        self.url = f"postgresql://bench@/dbos?host={folder}"
        self.do("createdb", "-h", folder, "-U", "bench", "dbos")

    def do(self, program, *words):
        subprocess.run([*self.run_as, f"{self.programs}/{program}", *words], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def end(self):
        self.do("pg_ctl", "-D", f"{self.folder}/pg", "-m", "immediate", "stop")


async def drive(runs, steps, name):
    async def one():
        handle = await DBOS.start_workflow_async(chain, steps)
        return await handle.get_result()

    await one()
    say({"ready": name})
    loop = asyncio.get_running_loop()
    while (await loop.run_in_executor(None, sys.stdin.readline)).strip() == "go":
        began = perf_counter()
        answers = await asyncio.gather(*(one() for _ in range(runs)))
        assert all(answer == steps for answer in answers), "a run did not do all of its steps"
        say({"seconds": perf_counter() - began})


def main(folder, runs, steps):
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    reachable = os.geteuid() != 0 or subprocess.run(["setpriv", "--reuid=postgres", "--clear-groups", "test", "-x", folder]).returncode == 0
    postgres = Postgres(programs[-1], folder) if programs and reachable else None
    url = postgres.url if postgres else f"sqlite:///{folder}/dbos.sqlite"
    name = f"DBOS {version('dbos')} on {'PostgreSQL' if postgres else 'SQLite'}"
    try:
        DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"})
        DBOS.launch()
        asyncio.run(drive(runs, steps, name))
        DBOS.destroy()
    finally:
        if postgres:
            postgres.end()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
