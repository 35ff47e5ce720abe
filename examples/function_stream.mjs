// Let the model call a function of this program while its answer is streamed.

import OpenAI from "openai";

const client = new OpenAI();
const { threads } = client.beta;
const getWeather = ({ city }) => `It is 21 degrees and sunny in ${city}.`;
const declaration = {
  name: "get_weather",
  description: "Get the current weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

async function show(stream) {
  for await (const event of stream) {
    if (event.event === "thread.message.delta") {
      process.stdout.write(event.data.delta.content[0].text.value);
    } else if (event.event === "thread.run.requires_action") {
      await show(answered(event.data));
    }
  }
}

function answered(run) {
  const tool_outputs = run.required_action.submit_tool_outputs.tool_calls.map((call) => {
    console.log(`calls ${call.function.name} with ${call.function.arguments}`);
    return { tool_call_id: call.id, output: getWeather(JSON.parse(call.function.arguments)) };
  });
  return threads.runs.submitToolOutputsStream(run.id, { thread_id: run.thread_id, tool_outputs });
}

const assistant = await client.beta.assistants.create({
  model: "gpt-4o-mini",
  instructions: "Use the function to answer questions about the weather.",
  tools: [{ type: "function", function: declaration }],
});
const question = { role: "user", content: "What is the weather in Paris?" };
const thread = await threads.create({ messages: [question] });
await show(threads.runs.stream(thread.id, { assistant_id: assistant.id }));
console.log();
