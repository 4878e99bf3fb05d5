"""A process that has imported the peers of the tests, and forks for each that is started: importing Python Callosum takes
longer than most of them run.

Standard input is a Unix stream socket that speaks lines of JSON. In:

    {"start": SCRIPT, "args": [...]}    with three file descriptors (SCM_RIGHTS): the peer's standard streams
    {"kill": PID}                       does nothing once it has ended

Out, in this order for each peer:

    {"started": PID}
    {"ended": PID, "status": N}         N as wait(2) has it

When the socket is closed it kills the peers that are left, and ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from types import ModuleType
from typing import Any

# What most tests start. Other scripts are imported by the child that runs them.
import client  # noqa: F401
import dealer  # noqa: F401
import golden  # noqa: F401
import raw  # noqa: F401
import raw_server  # noqa: F401
import server  # noqa: F401


class ForkServer:
    def __init__(self) -> None:
        self.control = socket.socket(fileno=os.dup(0))
        self.lines = b""
        self.descriptors: list[int] = []
        self.children: set[int] = set()
        # A signal writes to it, so that `select` returns.
        self.woken, self.waker = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self.waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker)

    def serve(self) -> ModuleType | None:
        """Returns the script that a child is to run, and None when the socket was closed."""
        while True:
            ready, _, _ = select.select([self.control, self.woken], [], [])
            if self.woken in ready:
                self.reap()
            if self.control not in ready:
                continue
            received, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 3)
            self.descriptors += descriptors
            if not received:
                self.kill_all()
                return None
            *commands, self.lines = (self.lines + received).split(b"\n")
            for command in commands:
                script = self.obey(json.loads(command))
                if script is not None:
                    return script

    def obey(self, command: dict[str, Any]) -> ModuleType | None:
        if "kill" in command:
            # Only what has not been waited for: another process may have its number by now.
            if command["kill"] in self.children:
                os.kill(command["kill"], signal.SIGKILL)
            return None
        streams, self.descriptors = self.descriptors[:3], self.descriptors[3:]
        child = os.fork()
        if child == 0:
            self.become(streams, [command["start"], *command["args"]])
            return importlib.import_module(command["start"].removesuffix(".py"))
        for stream in streams:
            os.close(stream)
        self.children.add(child)
        self.tell({"started": child})
        return None

    def become(self, streams: list[int], argv: list[str]) -> None:
        """In the child: leaves nothing of the fork server but what it has imported."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.control.close()
        os.close(self.woken)
        os.close(self.waker)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.argv = argv

    def reap(self) -> None:
        while True:
            try:
                os.read(self.woken, 4096)
            except BlockingIOError:
                break
        for child in list(self.children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self.children.remove(child)
                self.tell({"ended": child, "status": status})

    def kill_all(self) -> None:
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def tell(self, answer: dict[str, int]) -> None:
        try:
            self.control.sendall(json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:
            pass  # nobody listens any more: `serve` is about to see it


if __name__ == "__main__":
    # What there is now is shared by all children; a collection would copy it.
    gc.freeze()
    peer = ForkServer().serve()
    if peer is not None:
        sys.exit(peer.main())
