// Ask once and poll for the answer.

import OpenAI from "openai";

const client = new OpenAI();

const assistant = await client.beta.assistants.create({
  model: "gpt-4o-mini",
  instructions: "You are a friendly assistant. Answer in one short sentence.",
});
const thread = await client.beta.threads.create();
await client.beta.threads.messages.create(thread.id, {
  role: "user",
  content: "My name is Ada. What can you do?",
});
const run = await client.beta.threads.runs.createAndPoll(thread.id, { assistant_id: assistant.id });

console.log(run.status);
for await (const message of client.beta.threads.messages.list(thread.id, { order: "asc" })) {
  console.log(`${message.role}: ${message.content[0].text.value}`);
}
