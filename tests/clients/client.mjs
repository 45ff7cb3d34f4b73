// The program through the TypeScript SDK, as a user of that SDK would write it: `client.mjs SUBJECT ERA SCENE`.
//
// The era is `first` (the SDK 1.x, which ends with 2025-11-25), `legacy` (its successor with the handshake) or `modern` (the
// same with 2026-07-28). What is tried is told by `tests/e2e/clients.rs`, which makes the scene. It ends with 0, or with the
// first thing that is not as it should be.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { Ajv2020 } from "ajv/dist/2020.js";
import { Client as FirstClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as FirstTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { createTaskSessionFromClient, resultFromTaskOutcome } from "@modelcontextprotocol/ext-tasks/client";

const [subject, era, told] = process.argv.slice(2);
const scene = JSON.parse(told);
const info = { name: "orchestrator-clients", version: "1.0" };

/** A connected client, and what a call is in its SDK. */
async function connect(capabilities = {}, answer = undefined) {
  const parameters = { command: scene.command, args: scene.args, env: { PATH: process.env.PATH, ...scene.env } };
  const first = era === "first";
  const mode = era === "modern" ? "auto" : "legacy";
  const client = first
    ? new FirstClient(info, { capabilities })
    : new Client(info, { capabilities, versionNegotiation: { mode } });
  if (answer) client.setRequestHandler(first ? ElicitRequestSchema : "elicitation/create", answer);
  const transport = first ? new FirstTransport(parameters) : new StdioClientTransport(parameters);
  await client.connect(transport);
  const call = (name, args, options) => {
    const params = { name, arguments: args };
    return first ? client.callTool(params, undefined, options) : client.callTool(params, options);
  };
  const run = (cmd, options) => call("task_exec", { alias: "box", cmd }, options);
  return { client, transport, call, run };
}

/** The error shape of the tool contract. */
function problem(result, code) {
  const found = result.structuredContent;
  assert.equal(result.isError, true);
  assert.equal(found.error, true);
  assert.equal(found.code, code);
  assert.ok(found.message && typeof found.details === "object" && typeof found.retryable === "boolean", found);
  assert.match(found.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z$/);
  assert.ok(result.content[0].text.includes(code), result.content[0].text);
}

/** Whether a process of this machine, which is also the server's, is this `sleep`. */
function runs() {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).some((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").startsWith(`sleep\0${scene.sleep}`);
    } catch {
      return false; // It has ended meanwhile.
    }
  });
}

async function until(what, ready) {
  const end = Date.now() + 20_000;
  while (!ready()) {
    assert.ok(Date.now() < end, `still waiting for ${what}`);
    await sleep(20);
  }
}

const subjects = {
  async tools() {
    const { client, call, run } = await connect();
    assert.equal(client.getServerVersion().name, "mcp-orchestrator");
    if (era !== "first") assert.equal(client.getProtocolEra(), era);
    const { tools } = await client.listTools();
    const names = tools.map((tool) => tool.name);
    for (const name of ["server_add", "task_exec", "get_system_resources"]) assert.ok(names.includes(name), name);
    const schemas = new Ajv2020({ strict: false, validateFormats: false });
    for (const tool of tools) {
      assert.match(tool.name, /^[a-zA-Z0-9_-]{1,64}$/);
      assert.ok(tool.title && tool.description, tool.name);
      schemas.compile(tool.inputSchema);
      schemas.compile(tool.outputSchema);
    }
    // The SDK holds each result against the output schema, and throws where it does not match.
    const added = await call("server_add", scene.server);
    assert.ok(!added.isError, added.content[0]?.text);
    const said = await run("echo hi");
    assert.equal(said.structuredContent.stdout, "hi\n");
    assert.ok(said.content[0].text.includes("hi"));
    const failed = await run("echo no >&2; exit 3");
    assert.equal(failed.isError, true);
    assert.equal(failed.structuredContent.exit_code, 3);
    const resources = await call("get_system_resources", { alias: "box" });
    assert.ok(resources.structuredContent.memory.total_bytes > 0);
    problem(await call("task_exec", { alias: "nowhere", cmd: "true" }), "SERVER_NOT_FOUND");
    problem(await call("task_exec", { alias: "box" }), "INVALID_ARGUMENT");
    await assert.rejects(call("task_exek", {}), (error) => error.code === -32602 && /task_exec/.test(error.message));
    await client.close();
  },

  async progress() {
    const { client, call, run } = await connect();
    await call("server_add", scene.server);
    const steps = [];
    const onprogress = (step) => steps.push(step);
    await run("for i in 1 2 3 4; do echo line $i; sleep 0.7; done", { onprogress });
    const done = steps.map((step) => step.progress);
    assert.ok(done.length > 2, JSON.stringify(steps));
    assert.deepEqual(done, [...new Set(done)].sort((a, b) => a - b));
    assert.ok(steps.some((step) => step.message?.includes("line 2")), JSON.stringify(steps));
    await client.close();
  },

  /** Prints the id of a job that was handed over, and stays until it is killed. */
  async begin() {
    const { call, run } = await connect();
    await call("server_add", scene.server);
    const { structuredContent } = await run(scene.cmd);
    assert.equal(structuredContent.state, "running");
    assert.equal(structuredContent.next, "task_wait");
    console.log(structuredContent.id);
    await new Promise(() => setInterval(() => {}, 60_000));
  },

  /** Waits for the job that another client has begun. */
  async wait() {
    const { client, call } = await connect();
    const ended = await call("task_wait", { id: scene.job, timeout: 20 });
    assert.equal(ended.structuredContent.status, "completed", ended.content[0].text);
    assert.ok(ended.content[0].text.includes("done"), ended.content[0].text);
    await client.close();
  },

  async cancel() {
    const { client, call, run } = await connect();
    await call("server_add", scene.server);
    const controller = new AbortController();
    const given = assert.rejects(run(`sleep ${scene.sleep}`, { signal: controller.signal }));
    await until("the command to run", runs);
    controller.abort("no longer needed");
    await given;
    await until("the command to be gone", () => !runs());
    const { jobs } = (await call("task_history", { alias: "box" })).structuredContent;
    const ended = await call("task_wait", { id: jobs[0].id, timeout: 20 });
    assert.equal(ended.structuredContent.status, "cancelled");
    // The session is as good as before.
    assert.equal((await run("echo hi")).structuredContent.stdout, "hi\n");
    await client.close();
  },

  /** The SDK asks its user about a host key, in every era through the same callback. */
  async ask() {
    const asked = [];
    const answers = [{ action: "decline" }, { action: "accept", content: { trust: true } }];
    const { client, call, run } = await connect({ elicitation: { form: {} } }, async ({ params }) => {
      assert.ok(params.requestedSchema.properties.trust, JSON.stringify(params));
      asked.push(params.message);
      return answers[asked.length - 1];
    });
    await call("server_add", scene.server);
    problem(await run("echo in"), "HOST_KEY_UNKNOWN");
    assert.equal((await run("echo in")).structuredContent.stdout, "in\n");
    await run("echo in");
    assert.equal(asked.length, 2);
    assert.ok(asked.every((message) => message.includes(scene.fingerprint)), asked.join("\n"));
    await client.close();
  },

  /** By the SDK's own package for Tasks, which wants its requests sent past the client's codecs. */
  async tasks() {
    const capabilities = { extensions: { "io.modelcontextprotocol/tasks": {} } };
    const { client, transport, call } = await connect();
    await call("server_add", scene.server);
    let sent = 0;
    const pending = new Map();
    const deliver = transport.onmessage;
    transport.onmessage = (message, extra) => {
      const answered = pending.get(message.id);
      if (!answered) return deliver(message, extra);
      pending.delete(message.id);
      answered(message.error ? { kind: "error", error: message.error } : { kind: "result", result: message.result });
    };
    const rawDispatch = (request) =>
      new Promise((answered, failed) => {
        const id = `task-${sent++}`;
        pending.set(id, answered);
        transport.send({ jsonrpc: "2.0", id, ...request }).catch(failed);
      });
    const v2RequestFraming = { protocolVersion: "2026-07-28", clientInfo: info, clientCapabilities: capabilities };
    const session = createTaskSessionFromClient(client, { endpointId: "box", rawDispatch, v2RequestFraming });
    const run = (cmd) => session.callTool("task_exec", { alias: "box", cmd });

    const long = await run("sleep 2; echo done");
    assert.equal(long.kind, "task");
    const seen = [];
    const { outcome } = await long.settle({ onEvent: (event) => void seen.push(event.task?.status ?? event.type) });
    const { structuredContent } = resultFromTaskOutcome(outcome);
    assert.equal(structuredContent.stdout, "done\n");
    assert.equal(structuredContent.id, long.handle.taskId);
    assert.ok(seen.includes("working"), seen.join());

    const short = await run("echo hi");
    assert.equal(short.kind, "immediate");
    assert.equal(resultFromTaskOutcome((await short.settle()).outcome).structuredContent.stdout, "hi\n");

    const endless = await run(`sleep ${scene.sleep}`);
    await until("the command to run", runs);
    await endless.cancel();
    assert.equal((await endless.settle()).outcome.status, "cancelled");
    await until("the command to be gone", () => !runs());
    await session.close();
    await client.close();
  },
};

await subjects[subject]();
