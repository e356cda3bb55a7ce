// Restate beside Lifeboat: so many invocations at once of a handler with so many durable steps that do nothing. What it is told and says is in
// ../README.md. The server runs with its defaults, on a folder of its own on the same disk; the handler is in a process of its own.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

// The SDK uses it; Node has it from version 22 on.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new this((done, failed) => { resolve = done; reject = failed; });
  return { promise, resolve, reject };
};

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

async function serve(port) {
  const restate = await import("@restatedev/restate-sdk");
  const chain = restate.service({
    name: "chain",
    handlers: {
      run: async (ctx, steps) => {
        let done = 0;
        for (let step = 0; step < steps; step++) done += await ctx.run(`s${step}`, async () => 1);
        return done;
      },
    },
  });
  await restate.serve({ services: [chain], port });
}

const freePort = () => new Promise((found) => {
  const server = createServer();
  server.listen(0, "127.0.0.1", () => { const { port } = server.address(); server.close(() => found(port)); });
});

async function until(what, seconds, attempt) {
  const ends = Date.now() + seconds * 1000;
  for (;;) {
    try { return await attempt(); } catch (error) {
      if (Date.now() > ends) throw new Error(`${what}: ${error}`);
      await new Promise((next) => setTimeout(next, 200));
    }
  }
}

async function post(url, body) {
  const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

async function drive(program, folder, runs, steps) {
  const [ingress, admin, node, handler] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const at = (port) => `127.0.0.1:${port}`;
  const env = {
    ...process.env,
    RESTATE_BASE_DIR: folder,
    RESTATE_INGRESS__BIND_ADDRESS: at(ingress),
    RESTATE_ADMIN__BIND_ADDRESS: at(admin),
    RESTATE_BIND_ADDRESS: at(node),
    RESTATE_LISTEN_MODE: "tcp",
    RESTATE_LOG_FILTER: "error",
    RESTATE_DISABLE_TELEMETRY: "true",
    RESTATE_LOGGING: "ERROR",
    DO_NOT_TRACK: "1",
  };
  const quiet = { env, stdio: "ignore" };
  const children = [
    spawn(program, [], quiet),
    spawn(process.execPath, [fileURLToPath(import.meta.url), "serve", String(handler)], quiet),
  ];
  try {
    await until("registering the handler", 60, () => post(`http://${at(admin)}/deployments`, { uri: `http://${at(handler)}` }));
    const one = () => post(`http://${at(ingress)}/chain/run`, steps);
    await until("the first run", 60, one);
    say({ ready: "Restate 1.7.12" });
    for await (const line of createInterface({ input: process.stdin })) {
      if (line !== "go") break;
      const began = performance.now();
      const answers = await Promise.all(Array.from({ length: runs }, one));
      if (answers.some((answer) => answer !== steps)) throw new Error("a run did not do all of its steps");
      say({ seconds: (performance.now() - began) / 1000 });
    }
  } finally {
    children.forEach((child) => child.kill("SIGKILL"));
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === "serve") {
  await serve(Number(rest[0]));
} else {
  await drive(first, rest[0], Number(rest[1]), Number(rest[2]));
  process.exit(0);
}
