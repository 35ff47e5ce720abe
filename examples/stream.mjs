// Print the answer while it is written.

import OpenAI from "openai";

const client = new OpenAI();

const assistant = await client.beta.assistants.create({
  model: "gpt-4o-mini",
  instructions: "Answer in one short sentence.",
});
const thread = await client.beta.threads.create({
  messages: [{ role: "user", content: "Why is the sky blue?" }],
});
const stream = client.beta.threads.runs
  .stream(thread.id, { assistant_id: assistant.id })
  .on("textCreated", () => process.stdout.write("assistant > "))
  .on("textDelta", (delta) => process.stdout.write(delta.value))
  .on("textDone", () => process.stdout.write("\n"));
console.log((await stream.finalRun()).status);
