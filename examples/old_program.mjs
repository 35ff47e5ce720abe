// A program of 2024, unchanged: its assistant was made once, and its id is in the environment.

import OpenAI from "openai";

const client = new OpenAI();
const assistantId = process.env.ASSISTANT_ID;

async function ask(thread, question) {
  await client.beta.threads.messages.create(thread.id, { role: "user", content: question });
  const run = await client.beta.threads.runs.createAndPoll(thread.id, { assistant_id: assistantId });
  if (run.status !== "completed") throw new Error(`${run.status}: ${run.last_error?.message}`);
  const messages = await client.beta.threads.messages.list(thread.id, { run_id: run.id });
  console.log(`user: ${question}`);
  console.log(`assistant: ${messages.data[0].content[0].text.value}`);
}

const assistant = await client.beta.assistants.retrieve(assistantId);
console.log(`${assistant.id} is ${assistant.name}`);
const thread = await client.beta.threads.create();
await ask(thread, "My name is Ada.");
await ask(thread, "What is my name?");
