// One program for every openai-node release; it prints what passed, what the release lacks and what failed.
//
//     OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=… node scenario.mjs scripted|embedded
//
// It runs beside the node_modules it tests. `[[…]]` in a message is a directive to the scripted upstream.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import OpenAI, { AzureOpenAI } from "openai";
import {
  address, asked, assistants, client, collected, messages, model, positional, quickly,
  remove, report, runs, stepOf, stepsOf, textOf, threads, within,
} from "./base.mjs";

const HELLO = "[[text:Hello there]]";
const HANG = "[[hang:2]]";
const QUESTION = 'What is the weather in Paris? [[tool:get_weather {"city":"Paris"}]]';
const BOTH = '[[tool:get_weather {"city":"Paris"}]] [[tool:get_weather {"city":"Rome"}]]';
const PICTURE = "https://example.com/cat.png";
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the current weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const plain = (await assistants.create({ model })).id;
const forecaster = (await assistants.create({ model, tools: [weather] })).id;

const answer = async (thread) => textOf((await messages.list(thread)).data[0]);
const ran = async (content, options = quickly) =>
  runs.createAndPoll(await asked(content), { assistant_id: plain }, options);

function outputsFor(run) {
  const calls = run.required_action.submit_tool_outputs.tool_calls;
  const output = (call) => `It is sunny in ${JSON.parse(call.function.arguments).city}.`;
  return { tool_outputs: calls.map((call) => ({ tool_call_id: call.id, output: output(call) })) };
}

async function refused(kind, promise, text) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, `${error}`);
    assert.ok(error.message.includes(text ?? ""), error.message);
    return true;
  });
}

// What holds whoever answers.
const anyModel = {
  async modelsAreListed() {
    assert.ok((await collected(client.models.list())).length > 0);
  },

  async aRunIsPolledToItsEnd() {
    const run = await ran(HELLO, undefined);
    assert.equal(run.status, "completed");
    assert.ok(run.usage.total_tokens > 0);
    assert.ok(await answer(run.thread_id));
  },

  async textDeltasAddUpToTheMessage() {
    const thread = await asked(HELLO);
    let text = "";
    const stream = runs.stream(thread, { assistant_id: plain });
    stream.on("textDelta", (delta) => (text += delta.value));
    const [message] = await stream.finalMessages();
    assert.equal((await stream.finalRun()).status, "completed");
    assert.equal(textOf(message), text);
    assert.equal(await answer(thread), text);
  },

  async aFunctionIsCalledAndItsOutputUsed() {
    const thread = await asked(QUESTION);
    let run = await runs.createAndPoll(thread, { assistant_id: forecaster }, quickly);
    assert.equal(run.status, "requires_action");
    const given = { body: outputsFor(run), options: quickly };
    run = await within(runs, "submitToolOutputsAndPoll", thread, run.id, given);
    assert.equal(run.status, "completed");
    assert.match(await answer(thread), /sunny in Paris/);
  },

  async aFollowUpQuestionRunsInTheSameThread() {
    const thread = await asked("My name is Ada.");
    for (const question of [undefined, "What is my name?"]) {
      if (question) await messages.create(thread, { role: "user", content: question });
      const run = await runs.createAndPoll(thread, { assistant_id: plain }, quickly);
      assert.equal(run.status, "completed");
    }
    const roles = (await collected(messages.list(thread, { order: "asc" }))).map((one) => one.role);
    assert.deepEqual(roles, ["user", "assistant", "user", "assistant"]);
  },
};

// What needs an upstream that obeys directives.
const scripted = {
  async assistantsAreCreatedChangedAndDeleted() {
    const made = await assistants.create({ model, name: "A", tools: [weather], metadata: { k: "v" } });
    assert.deepEqual([made.name, made.metadata, made.tools[0].type], ["A", { k: "v" }, "function"]);
    assert.equal((await assistants.update(made.id, { name: "B" })).name, "B");
    assert.equal((await assistants.retrieve(made.id)).name, "B");
    assert.ok((await remove(assistants, made.id)).deleted);
    await refused(OpenAI.NotFoundError, assistants.retrieve(made.id));
  },

  async listsTurnTheirOwnPages() {
    const made = [];
    for (let i = 0; i < 5; i++) made.push((await assistants.create({ model })).id);
    const page = await assistants.list({ limit: 2 });
    assert.ok(page.hasNextPage());
    assert.equal((await page.getNextPage()).data.length, 2);
    const newest = (await collected(page, 5)).map((one) => one.id);
    assert.deepEqual(newest, made.reverse());
  },

  async threadsAreCreatedChangedAndDeleted() {
    const made = await threads.create({ metadata: { k: "v" } });
    assert.deepEqual((await threads.update(made.id, { metadata: { k: "w" } })).metadata, { k: "w" });
    assert.deepEqual((await threads.retrieve(made.id)).metadata, { k: "w" });
    assert.ok((await remove(threads, made.id)).deleted);
    await refused(OpenAI.NotFoundError, threads.retrieve(made.id));
  },

  async whatIsSentAgainWithItsKeyIsDoneOnce() {
    const key = `key ${Math.random()}`;
    const header = { idempotencyHeader: "Idempotency-Key" };
    const careful = Object.assign(new OpenAI({ baseURL: address }), header).beta.threads;
    const first = await threads.create({}, { headers: { "Idempotency-Key": key } });
    assert.equal((await careful.create({}, { idempotencyKey: key })).id, first.id);
    assert.notEqual((await careful.create({})).id, first.id);
  },

  async messagesHaveTextPartsAndPictures() {
    const thread = (await threads.create()).id;
    const first = await messages.create(thread, { role: "user", content: "Hi" });
    const content = [
      { type: "text", text: "Look:" },
      { type: "image_url", image_url: { url: PICTURE, detail: "low" } },
    ];
    const second = await messages.create(thread, { role: "user", content });
    assert.equal(textOf(first), "Hi");
    assert.deepEqual(second.content.map((part) => part.type), ["text", "image_url"]);
    const body = { metadata: { k: "w" } };
    assert.deepEqual((await within(messages, "update", thread, first.id, { body })).metadata, body.metadata);
    assert.deepEqual((await within(messages, "retrieve", thread, first.id)).metadata, body.metadata);
    await within(messages, positional ? "del" : "delete", thread, second.id);
    assert.deepEqual((await collected(messages.list(thread))).map((one) => one.id), [first.id]);
  },

  async runsAreCreatedPolledListedAndChanged() {
    const thread = await asked(HELLO);
    let run = await runs.create(thread, { assistant_id: plain });
    assert.equal(run.status, "queued");
    run = await within(runs, "poll", thread, run.id, { options: quickly });
    assert.equal(run.status, "completed");
    const body = { metadata: { k: "w" } };
    assert.deepEqual((await within(runs, "update", thread, run.id, { body })).metadata, body.metadata);
    assert.deepEqual((await collected(runs.list(thread))).map((one) => one.id), [run.id]);
    assert.equal(await answer(thread), "Hello there");
  },

  async aThreadAndItsRunAreMadeAtOnce() {
    const thread = { messages: [{ role: "user", content: HELLO }] };
    const run = await threads.createAndRunPoll({ assistant_id: plain, thread }, quickly);
    assert.equal(run.status, "completed");
    assert.equal(await answer(run.thread_id), "Hello there");
    const events = await threads.createAndRun({ assistant_id: plain, thread, stream: true });
    assert.equal((await collected(events))[0].event, "thread.created");
    const stream = threads.createAndRunStream({ assistant_id: plain, thread });
    assert.equal((await collected(stream))[0].event, "thread.created");
    assert.equal((await stream.finalRun()).status, "completed");
  },

  async listenersHearTheText() {
    const heard = [];
    const stream = runs.stream(await asked(HELLO), { assistant_id: plain });
    stream
      .on("runStepCreated", () => heard.push("step created"))
      .on("messageCreated", () => heard.push("message created"))
      .on("textCreated", () => heard.push("text created"))
      .on("textDelta", (delta) => heard.push(`text ${delta.value}`))
      .on("textDone", (text) => heard.push(`text done ${text.value}`))
      .on("messageDone", () => heard.push("message done"))
      .on("runStepDone", (step) => heard.push(`step done ${step.type}`))
      .on("end", () => heard.push("end"));
    await stream.finalRun();
    assert.equal((await stream.finalMessages()).length, 1);
    assert.equal((await stream.finalRunSteps()).length, 1);
    assert.deepEqual(heard, [
      ...["step created", "message created", "text created", "text Hello", "text  there"],
      ...["text done Hello there", "message done", "step done message_creation", "end"],
    ]);
  },

  async listenersHearACallAndAnswerIt() {
    const heard = [];
    let given = "";
    const thread = await asked(QUESTION);
    const stream = runs.stream(thread, { assistant_id: forecaster });
    stream
      .on("toolCallCreated", (call) => heard.push(`call ${call.function.name}`))
      .on("toolCallDelta", (delta) => (given += delta.function.arguments ?? ""))
      .on("toolCallDone", (call) => heard.push(`done ${call.function.arguments}`));
    const run = await stream.finalRun();
    assert.equal(run.status, "requires_action");
    assert.deepEqual(heard, ["call get_weather", 'done {"city":"Paris"}']);
    assert.equal(given, '{"city":"Paris"}');
    const outputs = { body: outputsFor(run) };
    const answering = within(runs, "submitToolOutputsStream", thread, run.id, outputs);
    const events = (await collected(answering)).map((event) => event.event);
    assert.equal(events[0], "thread.run.step.completed");
    assert.equal(events.at(-1), "thread.run.completed");
    assert.match(await answer(thread), /sunny in Paris/);
  },

  async textBesideACallIsAMessageOfItsOwn() {
    const thread = await asked(`[[text:Wait]] ${QUESTION}`);
    const stream = runs.stream(thread, { assistant_id: forecaster });
    const run = await stream.finalRun();
    assert.equal(run.status, "requires_action");
    const types = (await stream.finalRunSteps()).map((step) => step.type);
    assert.deepEqual(types, ["message_creation", "tool_calls"]);
    const outputs = outputsFor(run);
    outputs.tool_outputs[0].output = QUESTION;
    const again = within(runs, "submitToolOutputsStream", thread, run.id, { body: outputs });
    const second = await again.finalRun();
    assert.equal(second.status, "requires_action");
    await within(runs, "cancel", thread, run.id);
    const ended = await within(runs, "poll", thread, run.id, { options: quickly });
    assert.equal(ended.status, "cancelled");
  },

  async anAnswerThatBreaksOffEndsItsStream() {
    const thread = await asked("[[drop-after:3]] [[tokens:9]]");
    const stream = runs.stream(thread, { assistant_id: plain });
    assert.equal((await stream.finalRun()).status, "failed");
  },

  async parallelCallsAreAnsweredTogether() {
    const thread = await asked(BOTH);
    const stream = runs.stream(thread, { assistant_id: forecaster });
    const [step] = await stream.finalRunSteps();
    const cities = step.step_details.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
    assert.deepEqual(cities, ["Paris", "Rome"]);
    const waiting = await stream.finalRun();
    const given = { body: outputsFor(waiting), options: quickly };
    const run = await within(runs, "submitToolOutputsAndPoll", thread, waiting.id, given);
    assert.equal(run.status, "completed");
  },

  async rawEventsComeInTheirOrder() {
    const thread = await asked("[[text:Hello]]");
    const events = await runs.create(thread, { assistant_id: plain, stream: true });
    assert.deepEqual((await collected(events)).map((event) => event.event), [
      ...["thread.run.created", "thread.run.queued", "thread.run.in_progress"],
      ...["thread.run.step.created", "thread.run.step.in_progress"],
      ...["thread.message.created", "thread.message.in_progress", "thread.message.delta"],
      ...["thread.message.completed", "thread.run.step.completed", "thread.run.completed"],
    ]);
  },

  async aRunIsCancelled() {
    const thread = await asked(HANG);
    const events = await runs.create(thread, { assistant_id: plain, stream: true });
    let last;
    for await (const event of events) {
      if (event.event === "thread.run.in_progress") {
        await within(runs, "cancel", thread, event.data.id);
      }
      last = event;
    }
    assert.equal(last.event, "thread.run.cancelled");
    const again = within(runs, "cancel", thread, last.data.id);
    await refused(OpenAI.BadRequestError, again, "Cannot cancel run with status 'cancelled'.");
  },

  async failedAndCutOffRunsSayWhy() {
    const failed = await ran("[[status:401 message=No]]");
    assert.deepEqual([failed.status, failed.last_error.code], ["failed", "server_error"]);
    const cut = await ran("[[text:Once upon]] [[finish:length]]");
    assert.equal(cut.status, "incomplete");
    assert.equal(cut.incomplete_details.reason, "max_completion_tokens");
  },

  async stepsAreListedAndRead() {
    const run = await ran(HELLO);
    const [listed] = await collected(stepsOf(run));
    const include = ["step_details.tool_calls[*].file_search.results[*].content"];
    const step = await stepOf(run, listed.id, { include });
    assert.deepEqual([step.id, step.type, step.status], [listed.id, "message_creation", "completed"]);
  },

  async messagesAndInstructionsAreAddedForARun() {
    const thread = await asked("one two");
    const body = {
      assistant_id: plain,
      instructions: "three",
      additional_instructions: "four five six",
      additional_messages: [{ role: "user", content: "[[tokens:3]]" }],
    };
    const run = await runs.createAndPoll(thread, body, quickly);
    assert.equal(run.usage.prompt_tokens, 7, "the upstream counts words");
    assert.equal((await messages.list(thread)).data.length, 3);
  },

  async explicitNullsAreLikeNothing() {
    const nothing = { metadata: null, tool_resources: null };
    const sampling = { temperature: null, top_p: null, response_format: null };
    const assistant = await assistants.create({ model, name: null, instructions: null, ...nothing, ...sampling });
    const message = { role: "user", content: HELLO, attachments: null, metadata: null };
    const thread = await threads.create({ messages: [message], ...nothing });
    const body = { assistant_id: assistant.id, metadata: null, tools: null, model: null, ...sampling };
    const more = { tool_choice: null, truncation_strategy: null, additional_messages: null, stream: null };
    const run = await runs.createAndPoll(thread.id, { ...body, ...more }, quickly);
    assert.equal(run.status, "completed");
  },

  async errorsAreTheSdksOwn() {
    const missing = "No thread found with id 'thread_none'.";
    await refused(OpenAI.NotFoundError, threads.retrieve("thread_none"), missing);
    const thread = await asked(HANG);
    const run = await runs.create(thread, { assistant_id: plain });
    const second = runs.create(thread, { assistant_id: plain });
    const active = `Thread ${thread} already has an active run ${run.id}.`;
    await refused(OpenAI.BadRequestError, second, active);
    const message = messages.create(thread, { role: "user", content: "x" });
    const full = `Can't add messages to ${thread} while a run ${run.id} is active.`;
    await refused(OpenAI.BadRequestError, message, full);
    await within(runs, "cancel", thread, run.id);
    const stranger = new OpenAI({ baseURL: address, apiKey: "sk-wrong", maxRetries: 0 });
    const wrong = stranger.beta.assistants.list();
    await refused(OpenAI.AuthenticationError, wrong, "Incorrect API key provided");
  },

  async anAzureClientDoesTheSame() {
    const endpoint = address.replace(/\/v1$/, "");
    const azure = new AzureOpenAI({ endpoint, apiVersion: "2024-05-01-preview", maxRetries: 0 });
    const assistant = await azure.beta.assistants.create({ model });
    const thread = { messages: [{ role: "user", content: HELLO }] };
    const body = { assistant_id: assistant.id, thread };
    const run = await azure.beta.threads.createAndRunPoll(body, quickly);
    assert.equal(run.status, "completed");
    const stream = azure.beta.threads.runs.stream(run.thread_id, { assistant_id: assistant.id });
    assert.ok(textOf((await stream.finalMessages())[0]));
  },
};

// Questions about a real PDF, answered with citations. `HANDBOOK` is the path of the file that the test made.
const vectorStores = client.vectorStores ?? client.beta.vectorStores;
const fileSearch = { type: "file_search" };
const handbook = () => new File([readFileSync(process.env.HANDBOOK)], "handbook.pdf");

function cited(message, file) {
  const { value, annotations } = message.content[0].text;
  assert.ok(value.includes("every nine days"), value);
  assert.ok(annotations.length, value);
  for (const { text, start_index, end_index, file_citation } of annotations) {
    // Indexes count code points, and a string of JavaScript UTF-16 units.
    assert.equal([...value].slice(start_index, end_index).join(""), text);
    assert.equal(file_citation.file_id, file);
  }
  assert.ok(annotations.some((one) => one.file_citation.page === 3));
}

const documents = {
  async aStoreMadeFromFilesIsCited() {
    const store = await vectorStores.create({ name: "Handbooks" });
    const file = await vectorStores.files.uploadAndPoll(store.id, handbook(), quickly);
    assert.equal(file.status, "completed", JSON.stringify(file.last_error));
    const assistant = await assistants.create({
      model,
      tools: [fileSearch],
      tool_resources: { file_search: { vector_store_ids: [store.id] } },
    });
    const thread = await asked("How often must the filter be rinsed?");
    const run = await runs.createAndPoll(thread, { assistant_id: assistant.id }, quickly);
    assert.equal(run.status, "completed");
    cited((await messages.list(thread)).data[0], file.id);
  },
  async filesAreUploadedAndPolledInABatch() {
    const store = await vectorStores.create({});
    const note = new File(["Shed 7 is locked."], "note.txt");
    const files = { files: [handbook(), note] };
    const batch = await vectorStores.fileBatches.uploadAndPoll(store.id, files, quickly);
    assert.equal(batch.file_counts.completed, 2);
    assert.ok((await remove(vectorStores, store.id)).deleted);
  },
  async aStreamedAnswerToAnAttachedFileIsCited() {
    const file = await client.files.create({ file: handbook(), purpose: "assistants" });
    const content = "How often must the filter be rinsed?";
    const attachments = [{ file_id: file.id, tools: [fileSearch] }];
    const thread = await threads.create({ messages: [{ role: "user", content, attachments }] });
    const assistant = await assistants.create({ model, tools: [fileSearch] });
    const stream = runs.stream(thread.id, { assistant_id: assistant.id });
    cited((await stream.finalMessages())[0], file.id);
  },
};

await report(process.argv[2] === "embedded" ? { ...anyModel, ...documents } : { ...anyModel, ...scripted });
