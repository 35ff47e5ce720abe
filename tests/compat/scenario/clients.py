"""The SDK's other clients."""

import asyncio
import os

from openai import AsyncOpenAI, AzureOpenAI

from tests.compat.scenario.base import HELLO, MODEL, QUESTION, QUICKLY, Scenario, outputs_for


class Clients(Scenario):
    def the_asynchronous_client_does_the_same(self) -> None:
        asyncio.run(self._asynchronous())

    def sixteen_runs_go_on_at_once(self) -> None:
        asyncio.run(self._at_once(16))

    def an_azure_client_does_the_same(self) -> None:
        client = AzureOpenAI(
            azure_endpoint=os.environ["OPENAI_BASE_URL"].removesuffix("/v1"),
            api_version="2024-05-01-preview",
            max_retries=0,
            api_key=os.environ["OPENAI_API_KEY"],
        )
        bearer = AzureOpenAI(
            azure_endpoint=os.environ["OPENAI_BASE_URL"].removesuffix("/v1"),
            api_version="2024-05-01-preview",
            azure_ad_token=os.environ["OPENAI_API_KEY"],
        )
        assert bearer.beta.assistants.list(limit=1).data
        assistant = client.beta.assistants.create(model=MODEL)
        thread = client.beta.threads.create(messages=[{"role": "user", "content": HELLO}])
        runs = client.beta.threads.runs
        run = runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
        assert run.status == "completed", run
        with runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
            assert "".join(stream.text_deltas)

    async def _asynchronous(self) -> None:
        async with AsyncOpenAI(max_retries=0) as client:
            threads = client.beta.threads
            thread = await threads.create(messages=[{"role": "user", "content": QUESTION}])
            async with threads.runs.stream(
                thread_id=thread.id, assistant_id=self._forecaster
            ) as stream:
                run = await stream.get_final_run()
            async with threads.runs.submit_tool_outputs_stream(
                thread_id=thread.id, run_id=run.id, tool_outputs=outputs_for(run)
            ) as stream:
                text = "".join([delta async for delta in stream.text_deltas])
            assert "sunny in Paris" in text
            await threads.messages.create(thread.id, role="user", content=HELLO)
            run = await threads.runs.create_and_poll(
                thread_id=thread.id, assistant_id=self._assistant, poll_interval_ms=QUICKLY
            )
            assert run.status == "completed", run
            messages = [message async for message in threads.messages.list(thread.id, limit=2)]
            assert len(messages) == 4

    async def _at_once(self, number: int) -> None:
        async with AsyncOpenAI(max_retries=0) as client, asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(self._streamed(client))

    async def _streamed(self, client: AsyncOpenAI) -> None:
        async with client.beta.threads.create_and_run_stream(
            assistant_id=self._assistant,
            thread={"messages": [{"role": "user", "content": HELLO}]},
        ) as stream:
            assert "".join([delta async for delta in stream.text_deltas]) == "Hello there"
