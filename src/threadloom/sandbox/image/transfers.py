"""Files that the host puts into the data folder, and takes out of it."""

import os

from files import Folder, Refused, Upload
from host import Host
from wire import PIECE, Message


class Transfers:
    """Only between cells. A refusal is an answer; the bytes that still come for it go nowhere."""

    def __init__(self, host: Host, folder: Folder) -> None:
        self._host, self._folder = host, folder
        self._upload: Upload | None = None
        self._id = ""

    def put(self, request: Message) -> None:
        """Raises Refused."""
        self._id = request["id"]
        self._upload = self._folder.upload(request["path"], request["size"])
        self._finish_if_complete()

    def take(self, content: bytes) -> None:
        if self._upload is None:
            return
        try:
            self._upload.write(content)
            self._finish_if_complete()
        except Refused as refused:
            self.refuse(self._id, refused)

    def link(self, request: Message) -> None:
        """Raises Refused."""
        self._folder.link(request["path"], request["target"])
        self._host.say("linked", id=request["id"])

    def remove(self, request: Message) -> None:
        """Raises Refused."""
        self._folder.remove(request["path"])
        self._host.say("removed", id=request["id"])

    def get(self, request: Message) -> None:
        """Raises Refused, also half-way: the file may change while it is read."""
        file = self._folder.open(request["path"], request["size"])
        try:
            status = os.fstat(file)
            self._host.say("file", id=request["id"], size=request["size"])
            left = request["size"]
            while left:
                if not (content := os.read(file, min(PIECE, left))):
                    raise Refused("changed", "It became shorter while it was read.")
                left -= len(content)
                self._host.send(content)
        finally:
            os.close(file)
        self._folder.sent(request["path"], status)
        self._host.say("got", id=request["id"])

    def files(self, request: Message) -> None:
        files, complete = self._folder.files()
        self._host.say("files", id=request["id"], files=files, complete=complete)

    def refuse(self, request: str, refused: Refused) -> None:
        self.abandon()
        self._host.say("fail", id=request, code=refused.code, error=str(refused))

    def abandon(self) -> None:
        """A file that is not complete when something else is asked for, or that cannot be."""
        if self._upload is not None:
            self._upload.abandon()
            self._upload = None

    def _finish_if_complete(self) -> None:
        if self._upload is not None and self._upload.complete:
            upload, self._upload = self._upload, None
            upload.finish()
            self._host.say("put", id=self._id)
