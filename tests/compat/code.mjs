// Python that a model writes, really run: an attached table, charts, files, a variable that is still there.
//
//     OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=… node code.mjs code|analysis
//
// The scripted upstream calls the tool with the code of the message, and then quotes what it hears.

import assert from "node:assert/strict";
import { asked, assistants, client, collected, messages, model, quickly, report, runs, stepsOf, textOf, threads } from "./base.mjs";

const PNG = "89504e470d0a1a0a";
const DRAW = `\
import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("/mnt/data/sales.csv")
print("The total is", sales.revenue.sum())
sales.plot(x="month", y="revenue")
plt.show()
`;
const REMEMBER = 'print("It had", len(sales), "rows")';
const SAVE = `\
totals = sales.groupby("region", as_index=False).revenue.sum()
totals.to_csv("/mnt/data/totals.csv", index=False)
totals.to_excel("/mnt/data/totals.xlsx", index=False)
`;
const TOTALS = "region,revenue\nnorth,900\nsouth,960\n";

const rows = Array.from({ length: 12 }, (_, number) => {
  const month = `2025-${String(number + 1).padStart(2, "0")}-01`;
  return `${month},${["north", "south"][number % 2]},${100 + 10 * number}\n`;
});
const table = () => new File(["month,region,revenue\n", ...rows], "sales.csv");
const tools = [{ type: "code_interpreter" }];
const analyst = (await assistants.create({ model, tools })).id;
const running = (code) => `[[tool:code_interpreter ${JSON.stringify({ code })}]]`;

async function attached(content) {
  const file = await client.files.create({ file: table(), purpose: "assistants" });
  const attachments = [{ file_id: file.id, tools }];
  const thread = await threads.create({ messages: [{ role: "user", content, attachments }] });
  assert.deepEqual(thread.tool_resources.code_interpreter.file_ids, [file.id]);
  return thread.id;
}

const newest = async (thread) => (await messages.list(thread)).data[0];

async function answered(thread) {
  const run = await runs.createAndPoll(thread, { assistant_id: analyst }, quickly);
  assert.equal(run.status, "completed", JSON.stringify(run.last_error));
  return newest(thread);
}

async function ask(thread, content) {
  await messages.create(thread, { role: "user", content });
  return answered(thread);
}

const bytes = async (file) => Buffer.from(await (await client.files.content(file)).arrayBuffer());

async function picture(message) {
  const [{ type, image_file }] = message.content;
  assert.equal(type, "image_file", textOf(message));
  assert.equal((await bytes(image_file.file_id)).subarray(0, 8).toString("hex"), PNG);
  return image_file.file_id;
}

async function linked(message) {
  const { value, annotations } = message.content.at(-1).text;
  const found = {};
  for (const { type, text, start_index, end_index, file_path } of annotations) {
    assert.equal(type, "file_path");
    // Indexes count code points, and a string of JavaScript UTF-16 units.
    assert.equal([...value].slice(start_index, end_index).join(""), text);
    const { id, purpose, filename } = await client.files.retrieve(file_path.file_id);
    assert.deepEqual([purpose, text], ["assistants_output", `sandbox:/mnt/data/${filename}`]);
    found[filename] = await bytes(id);
  }
  return found;
}

async function calls(thread) {
  const [run] = (await runs.list(thread)).data;
  const details = (await collected(stepsOf(run))).map((step) => step.step_details);
  return details.flatMap((one) => one.tool_calls ?? []);
}

// Release 4 leaves the indexes of deltas in its messages.
const shape = ({ content }) =>
  content.map(({ image_file, text }) => image_file?.file_id ?? [text.value, text.annotations.length]);

// What a stream's listeners hear of one call and its answer.
async function watched(thread) {
  const heard = { events: [], input: "", outputs: [], pictures: [], annotations: [], text: "" };
  const stream = runs.stream(thread, { assistant_id: analyst });
  stream
    .on("toolCallCreated", (call) => heard.events.push(`call ${call.type}`))
    .on("toolCallDelta", ({ code_interpreter: delta }, snapshot) => {
      heard.input += delta.input ?? "";
      heard.outputs.push(...(delta.outputs ?? []).map((output) => output.type));
      assert.equal(snapshot.code_interpreter.input, heard.input);
    })
    .on("imageFileDone", (image) => {
      heard.events.push("picture");
      heard.pictures.push(image.file_id);
    })
    .on("textCreated", () => heard.events.push("text created"))
    .on("textDelta", (delta) => {
      heard.text += delta.value ?? "";
      heard.annotations.push(...(delta.annotations ?? []).map((annotation) => annotation.text));
    })
    .on("textDone", () => heard.events.push("text done"));
  const [message] = await stream.finalMessages();
  assert.equal((await stream.finalRun()).status, "completed");
  const types = (await stream.finalRunSteps()).map((step) => step.type);
  assert.deepEqual(types, ["tool_calls", "message_creation"]);
  assert.deepEqual(shape(message), shape(await newest(thread)));
  assert.equal(heard.text, textOf(message));
  return { ...heard, message };
}

const ORDER = ["call code_interpreter", "text created", "picture", "text done"];

const code = {
  async aTableIsReadAndDrawn() {
    const thread = await attached(running(DRAW));
    const message = await answered(thread);
    const shown = await picture(message);
    assert.match(textOf(message), /The total is 1860/);
    const [{ type, code_interpreter }] = await calls(thread);
    assert.deepEqual([type, code_interpreter.input], ["code_interpreter", DRAW]);
    const [logs, image] = code_interpreter.outputs;
    assert.equal(logs.logs.trim(), "The total is 1860");
    assert.equal(image.image.file_id, shown);
  },
  async aFollowUpUsesAVariable() {
    const thread = await attached(running(DRAW));
    await answered(thread);
    assert.match(textOf(await ask(thread, running(REMEMBER))), /It had 12 rows/);
  },
  async filesThatTheCodeWroteAreLinked() {
    const thread = await attached(running(DRAW));
    await answered(thread);
    const files = await linked(await ask(thread, running(SAVE)));
    assert.equal(files["totals.csv"].toString(), TOTALS);
    assert.equal(files["totals.xlsx"].subarray(0, 2).toString(), "PK");
  },
  async listenersSeeCodeAndPictures() {
    const { events, input, outputs, pictures, message } = await watched(await attached(running(DRAW)));
    assert.deepEqual([events, input, outputs], [ORDER, DRAW, ["logs", "image"]]);
    assert.deepEqual(pictures, [await picture(message)]);
  },
  async listenersAreToldOfEachOfSeveralCallsOnce() {
    const heard = [];
    const thread = await asked(running("print(1)") + running("print(2)"));
    const stream = runs.stream(thread, { assistant_id: analyst });
    stream
      .on("toolCallCreated", ({ id }) => heard.push(`created ${id}`))
      .on("toolCallDone", ({ id, code_interpreter: { input, outputs: [{ logs }] } }) =>
        heard.push(`done ${id}: ${input} gave ${logs.trim()}`));
    await stream.done();
    const [first, second] = (await calls(thread)).map(({ id }) => id);
    assert.deepEqual(heard, [
      `created ${first}`,
      `done ${first}: print(1) gave 1`,
      `created ${second}`,
      `done ${second}: print(2) gave 2`,
    ]);
  },
  async listenersSeeLinks() {
    const thread = await attached(running(DRAW));
    await answered(thread);
    await messages.create(thread, { role: "user", content: running(SAVE) });
    const { input, annotations } = await watched(thread);
    assert.equal(input, SAVE);
    assert.deepEqual(annotations, ["sandbox:/mnt/data/totals.csv", "sandbox:/mnt/data/totals.xlsx"]);
  },
};

// With no key at all: the embedded model writes the code.
const analysis = {
  async anAttachedTableIsAnalysedAndDrawn() {
    const thread = await attached("Analyse this CSV and draw the trend of the revenue.");
    const message = await answered(thread);
    await picture(message);
    assert.match(textOf(message), /revenue by month: first 100 \(2025-01-01\), last 210 \(2025-12-01\)/);
  },
  async aFollowUpGoesOnWithTheData() {
    const thread = await attached("Analyse this CSV");
    await answered(thread);
    await ask(thread, "Run this:\n```python\ndf['profit'] = df.revenue / 2\n```");
    const message = await ask(thread, "And the profit by region, as a chart?");
    assert.match(textOf(message), /sum of profit by region: most 480 \(south\)/);
    await picture(message);
  },
  async aSummaryIsSavedAndLinked() {
    const thread = await attached("Save the revenue by region as csv and xlsx, please");
    const files = await linked(await answered(thread));
    assert.match(files["sales_summary.csv"].toString(), /south,960\r?\nnorth,900/);
    assert.equal(files["sales_summary.xlsx"].subarray(0, 2).toString(), "PK");
  },
  async listenersSeeCodeAndPictures() {
    const thread = await attached("Draw a chart of the revenue");
    const { events, input, pictures } = await watched(thread);
    const [call] = await calls(thread);
    assert.deepEqual([events, input], [ORDER, call.code_interpreter.input]);
    assert.equal(pictures.length, 1);
  },
};

await report(process.argv[2] === "code" ? code : analysis);
