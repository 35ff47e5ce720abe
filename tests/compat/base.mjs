// What the programs share: a client, and the calls that changed from release to release.

import { readFileSync } from "node:fs";
import OpenAI from "openai";

export const model = "gpt-4o";

export const client = new OpenAI({ maxRetries: 0 });
export const address = process.env.OPENAI_BASE_URL;
delete process.env.OPENAI_BASE_URL; // AzureOpenAI refuses it beside an endpoint
export const { assistants, threads } = client.beta;
export const { messages, runs } = threads;
export const quickly = { pollIntervalMs: 50 };

// Release 5 turned `f(thread, id, body)` into `f(id, {thread_id, ...body})`, and `del` into `delete`.
export const positional = "del" in threads;

export function within(resource, method, thread, id, { body, options } = {}) {
  return positional
    ? resource[method](thread, id, ...(body ? [body] : []), options)
    : resource[method](id, { thread_id: thread, ...body }, options);
}

export const stepsOf = (run) =>
  positional ? runs.steps.list(run.thread_id, run.id) : runs.steps.list(run.id, run);
export const stepOf = (run, id, query) =>
  positional
    ? runs.steps.retrieve(run.thread_id, run.id, id, query)
    : runs.steps.retrieve(id, { thread_id: run.thread_id, run_id: run.id, ...query });
export const remove = (resource, ...ids) => (resource.delete ?? resource.del).call(resource, ...ids);

export const asked = async (content) => (await threads.create({ messages: [{ role: "user", content }] })).id;
export const textOf = (message) => message.content.map((part) => part.text?.value ?? "").join("");

export async function collected(iterable, limit = Infinity) {
  const all = [];
  for await (const one of iterable) {
    all.push(one);
    if (all.length >= limit) break;
  }
  return all;
}

// Prints what passed and what failed.
export async function report(checks) {
  const manifest = new URL("node_modules/openai/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest));
  const seen = { sdk: version, passed: [], lacking: [], failed: {} };
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      seen.passed.push(name);
    } catch (error) {
      seen.failed[name] = `${error.stack}`;
    }
  }
  console.log(JSON.stringify(seen));
}
