// Let the model call a function of this program.

import OpenAI from "openai";

const client = new OpenAI();
const { threads } = client.beta;
const getWeather = ({ city }) => `It is 21 degrees and sunny in ${city}.`;
const declaration = {
  name: "get_weather",
  description: "Get the current weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const assistant = await client.beta.assistants.create({
  model: "gpt-4o-mini",
  instructions: "Use the function to answer questions about the weather.",
  tools: [{ type: "function", function: declaration }],
});
const question = { role: "user", content: "What is the weather in Paris?" };
const thread = await threads.create({ messages: [question] });
const run = await threads.runs.createAndPoll(thread.id, { assistant_id: assistant.id });

if (run.status === "requires_action") {
  const tool_outputs = run.required_action.submit_tool_outputs.tool_calls.map((call) => {
    console.log(`calls ${call.function.name} with ${call.function.arguments}`);
    return { tool_call_id: call.id, output: getWeather(JSON.parse(call.function.arguments)) };
  });
  await threads.runs.submitToolOutputsAndPoll(run.id, { thread_id: thread.id, tool_outputs });
}

const [newest] = (await threads.messages.list(thread.id)).data;
console.log(newest.content[0].text.value);
