"""A hand-written MCP server that talks back: it asks, tells, goes through rounds, runs tasks, serves skills.

Over stdio, or with `--http` over Streamable HTTP (it prints its port). What a call does is chosen by the tool's name,
and most of it by its arguments. Both eras: `--modern` answers `server/discover`. Plain threads, plain JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers.lifetime import end_with_parent

Json = dict[str, Any]
Out = Callable[[Json], None]

HANDSHAKE = "2025-11-25"
MODERN = "2026-07-28"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
TASKS = "io.modelcontextprotocol/tasks"
SKILLS = "io.modelcontextprotocol/skills"
SKILL = "skill://pdf/SKILL.md"
FORMS = "skill://pdf/forms/FORMS.md"
FILES = {
    SKILL: "---\nname: pdf\ndescription: Fill forms\nmetadata:\n  level: '1'\n---\n\nDo it.\n",
    FORMS: "A form.\n",
}


class Talker:
    """The server behind every stream."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begin with nothing heard."""
        self.options = options
        self.modern: bool = options.modern
        self.heard: list[Json] = []
        self.changed = threading.Condition()
        self.ids = itertools.count(1)
        self.answers: dict[Any, queue.Queue[Json]] = {}
        self.aside: list[Out] = []
        """Standalone streams of the older eras."""
        self.listens: dict[Any, tuple[Json, Out, threading.Event]] = {}
        self.tools = ["echo"]
        self.tasks: dict[str, Json] = {}
        self.subscribed: list[str] = []
        self.listed = 0
        self.pages = "one"
        self.files = dict(FILES)
        self.entries: list[Json] | None = None
        self.release = threading.Event()

    # -- what is said -----------------------------------------------------------------------------------------

    def discover(self) -> Json:
        """Return what the server offers."""
        changed = {"listChanged": True}
        offers: Json = {
            "tools": changed,
            "resources": {"subscribe": True, **changed},
            "prompts": changed,
            "logging": {},
        }
        if self.modern:
            offers["extensions"] = {TASKS: {}, SKILLS: {}}
        else:
            offers["tasks"] = {"requests": {"tools": {"call": {}}}, "cancel": {}}
            offers["extensions"] = {SKILLS: {}}
        if self.options.silent:
            offers = {"tools": {}, "resources": {}}
        return offers

    def ask(self, out: Out, method: str, params: Json, key: Any = None) -> Json:
        """Ask the client and return its answer, result or error."""
        key = key if key is not None else f"ask-{next(self.ids)}"
        box: queue.Queue[Json] = queue.Queue()
        self.answers[key] = box
        out({"id": key, "method": method, "params": params})
        answer = box.get(timeout=60)
        return {name: answer[name] for name in ("result", "error") if name in answer}

    def emit(self, method: str, params: Json) -> None:
        """Tell on whatever stream is for that."""
        if not self.modern:
            for out in list(self.aside):
                out({"method": method, "params": params})
            return
        for key, (_, out, _) in list(self.listens.items()):
            out({"method": method, "params": {**params, "_meta": {SUBSCRIPTION: key}}})

    def note(self, message: Json) -> None:
        """Remember a message, and wake who waits for it."""
        with self.changed:
            self.heard.append(message)
            self.changed.notify_all()

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until something has happened; fails the call after a while."""
        with self.changed:
            if not self.changed.wait_for(done, 15):
                raise RefusedError(-32000, "it did not happen")

    def count(self, method: str) -> int:
        """Return how often a method was heard."""
        return sum(message.get("method") == method for message in self.heard)

    # -- what is heard ----------------------------------------------------------------------------------------

    def take(self, message: Json, out: Out) -> None:
        """Serve one message; may take as long as it needs."""
        method = message.get("method")
        if method is None:
            box = self.answers.get(message["id"])
            if box is not None:
                box.put(message)
            else:
                self.note(message)
            return
        self.note(message)
        params = message.get("params") or {}
        if "id" not in message:
            if method == "notifications/cancelled":
                listen = self.listens.get(params.get("requestId"))
                if listen is not None:
                    listen[2].set()
            return
        try:
            result = self.serve(method, params, message["id"], out)
        except RefusedError as refused:
            out({"id": message["id"], "error": refused.body})
            return
        if result is not None:
            out({"id": message["id"], "result": result})

    def serve(self, method: str, params: Json, key: Any, out: Out) -> Json | None:
        """Answer a request; None where something else answers it."""
        if method == "initialize":
            name = {"name": "talker", "version": "1"}
            return {"protocolVersion": HANDSHAKE, "capabilities": self.discover(), "serverInfo": name}
        if method == "server/discover" and self.modern:
            info = {"io.modelcontextprotocol/serverInfo": {"name": "talker", "version": "1"}}
            offers = self.discover()
            return self.complete(
                supportedVersions=[MODERN], capabilities=offers, ttlMs=0, cacheScope="private", _meta=info
            )
        if method == "ping":
            return {}
        if method == "logging/setLevel":
            return {}
        if method == "tools/list":
            self.listed += 1
            if self.pages == "endless":
                return self.complete(tools=[], nextCursor=str(self.listed))
            if self.pages == "circle":
                return self.complete(tools=[], nextCursor="again")
            return self.complete(tools=[{"name": name, "inputSchema": {"type": "object"}} for name in self.tools])
        if method in {"resources/subscribe", "resources/unsubscribe"} and not self.modern:
            (self.subscribed.append if method.endswith("/subscribe") else self.subscribed.remove)(params["uri"])
            return {}
        if method == "subscriptions/listen" and self.modern:
            self.listen(params, key, out)
            return self.complete(_meta={SUBSCRIPTION: key})
        if method == "skills/list":
            return self.complete(skills=self.entries if self.entries is not None else [self.entry()], ttlMs=0)
        if method == "skills/get":
            return self.complete(skill=self.entry(), ttlMs=60_000)
        if method == "resources/read":
            uri = params["uri"]
            if uri == "test://rounds":
                return self.round(params, {"rounds": [{"one": {"method": "roots/list"}}]}, key, "contents")
            return self.complete(contents=[{"uri": uri, "text": self.files[uri]}])
        if method == "prompts/get":
            return self.round(params, {"rounds": [{"one": {"method": "roots/list"}}]}, key, "messages")
        if method.startswith("tasks/"):
            return self.task(method, params, out)
        if method == "tools/call":
            return self.call(params["name"], params.get("arguments") or {}, params, key, out)
        raise RefusedError(-32601, "Method not found")

    def complete(self, **members: Any) -> Json:
        """Return a result as the era spells it."""
        return {**members, "resultType": "complete"} if self.modern else members

    def listen(self, params: Json, key: Any, out: Out) -> None:
        """Hold a stream until it is cancelled or dropped."""
        event = threading.Event()
        honored = params["notifications"]
        with self.changed:
            self.listens[key] = (honored, out, event)
            self.changed.notify_all()
        ack = {"notifications": honored, "_meta": {SUBSCRIPTION: key}}
        out({"method": "notifications/subscriptions/acknowledged", "params": ack})
        event.wait()
        self.listens.pop(key, None)

    # -- calls ------------------------------------------------------------------------------------------------

    def call(self, name: str, arguments: Json, params: Json, key: Any, out: Out) -> Json | None:
        """Run one tool."""
        found: Any = None
        if name == "echo":
            found = arguments
        elif name == "params":
            found = params
        elif name == "ask":
            found = self.ask(out, arguments["method"], arguments.get("params", {}))
        elif name == "ask-aside":
            found = self.ask(self.aside[-1], arguments["method"], arguments.get("params", {}))
        elif name == "ask-many":
            found = self.ask_many(arguments["asks"], out)
        elif name == "ask-and-leave":
            out({"id": "left", "method": arguments["method"], "params": arguments.get("params", {})})
            self.release.wait(60)
            self.release.clear()
        elif name == "release":
            self.release.set()
        elif name == "notify":
            for told in arguments["notices"]:
                out(told)
        elif name == "emit":
            for told in arguments["notices"]:
                self.emit(told["method"], told["params"])
        elif name == "flood":
            self.flood(out, arguments)
        elif name == "forge":
            self.ask(out, "roots/list", {}, key="forged")
            out({"id": "nobody", "result": {}})
        elif name == "await":
            self.until(lambda: self.count(arguments["method"]) >= arguments.get("count", 1))
        elif name == "await-streams":
            self.until(lambda: len(self.listens if self.modern else self.aside) >= arguments.get("count", 1))
        elif name == "await-task":
            wanted = arguments["taskId"]
            self.until(lambda: any(wanted in listen[0].get("taskIds", ()) for listen in list(self.listens.values())))
        elif name == "heard":
            found = {"heard": self.heard, "subscribed": self.subscribed, "tools": self.tools, "listed": self.listed}
            found["listens"] = [honored for honored, _, _ in list(self.listens.values())]
            found["streams"] = len(self.aside)
        elif name == "set":
            for attribute, value in arguments.items():
                setattr(self, attribute, value)
        elif name == "drop-streams":
            for _, _, event in list(self.listens.values()):
                event.set()
            self.aside.clear()
        elif name == "die":
            raise SystemExit(7)
        elif name == "round":
            return self.round(params, arguments, key, "structuredContent")
        elif name == "result":
            return dict(arguments["result"])
        elif name == "refuse":
            raise RefusedError(arguments["code"], arguments["message"], arguments.get("data"))
        elif name == "background":
            return self.begin(arguments, params)
        else:
            raise RefusedError(-32602, f"Unknown tool {name}")
        return self.complete(content=[], structuredContent=found)

    def ask_many(self, asks: list[Json], out: Out) -> list[Json]:
        """Ask several things at once; the answers in the order of the questions."""
        found: list[Json] = [{} for _ in asks]

        def one(index: int, asked: Json) -> None:
            found[index] = self.ask(out, asked["method"], asked.get("params", {}))

        threads = [threading.Thread(target=one, args=item) for item in enumerate(asks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def flood(self, out: Out, arguments: Json) -> None:
        """Send very many messages as fast as they are taken."""
        for number in range(arguments.get("pings", 0)):
            out({"id": f"ping-{number}", "method": "ping"})
        for number in range(arguments.get("logs", 0)):
            out({"method": "notifications/message", "params": {"level": "info", "data": f"log {number}"}})
        for _ in range(arguments.get("changes", 0)):
            out({"method": "notifications/tools/list_changed", "params": {}})

    def round(self, params: Json, arguments: Json, key: Any, member: str) -> Json:
        """Ask round after round; in the end tell what came with each."""
        state = json.loads(params.get("requestState") or "[]")
        rounds = arguments["rounds"]
        seen = {"id": key, "inputResponses": params.get("inputResponses"), "state": "requestState" in params}
        history = [*state, seen]
        step = len(history) - 1
        if step < len(rounds) or arguments.get("endless"):
            asked = rounds[min(step, len(rounds) - 1)]
            answer: Json = {"resultType": "input_required"}
            if asked:
                answer["inputRequests"] = asked
            if not arguments.get("stateless"):
                answer["requestState"] = json.dumps(history)
            return answer
        found = {"history": history, "params": params}
        body: Any = {"structuredContent": found} if member == "structuredContent" else {member: [found]}
        return body if arguments.get("untyped") else {**body, "resultType": "complete"}

    # -- tasks ------------------------------------------------------------------------------------------------

    def begin(self, arguments: Json, params: Json) -> Json:
        """Start a task, or answer at once where nobody asked for one."""
        if not self.modern and "task" not in params:
            return {"content": [], "structuredContent": {"at": "once"}}
        name = f"task-{next(self.ids)}"
        stamp = {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"}
        task: Json = {"taskId": name, "status": "working", **stamp}
        task |= {"ttlMs": 60_000, "pollIntervalMs": 20} if self.modern else {"ttl": 60_000, "pollInterval": 20}
        self.tasks[name] = {"task": task, "plan": arguments, "polls": 0, "got": None, "ready": threading.Event()}
        self.tasks[name]["token"] = (params.get("_meta") or {}).get("progressToken")
        return {**task, "resultType": "task"} if self.modern else {"task": task}

    def step(self, entry: Json) -> Json:
        """Move a task on by one poll and return its object."""
        plan, task = entry["plan"], entry["task"]
        entry["polls"] += 1
        if entry["token"] is not None and entry["polls"] <= 3:
            self.emit("notifications/progress", {"progressToken": entry["token"], "progress": entry["polls"]})
        if task["status"] == "working" and entry["polls"] > plan.get("polls", 1):
            if plan.get("asks") and entry["got"] is None:
                task["status"] = "input_required"
            elif plan.get("end", "completed") != "never":
                task["status"] = plan.get("end", "completed")
                entry["ready"].set()
        return dict(task)

    def outcome(self, entry: Json) -> Json:
        """Return what the call would have been answered with."""
        if entry["task"]["status"] == "failed":
            raise RefusedError(-32050, "it failed", {"why": "planned"})
        return {"content": [], "structuredContent": {"got": entry["got"], "polls": entry["polls"] > 0}}

    def task(self, method: str, params: Json, out: Out) -> Json:
        """Serve `tasks/*`."""
        entry = self.tasks.get(params["taskId"])
        if entry is None:
            raise RefusedError(-32602, "unknown task")
        if method == "tasks/cancel":
            entry["task"]["status"] = "cancelled"
            entry["ready"].set()
            return self.complete() if self.modern else dict(entry["task"])
        if method == "tasks/update":
            entry["got"] = params["inputResponses"]
            entry["task"]["status"] = "working"
            return self.complete()
        if method == "tasks/result" and not self.modern:
            if entry["task"]["status"] == "input_required":
                related = {"_meta": {"io.modelcontextprotocol/related-task": {"taskId": params["taskId"]}}}
                asks = entry["plan"]["asks"].items()
                entry["got"] = {
                    name: self.ask(out, ask["method"], {**ask.get("params", {}), **related}) for name, ask in asks
                }
                entry["task"]["status"] = entry["plan"].get("end", "completed")
            else:
                entry["ready"].wait(60)
            if entry["task"]["status"] == "cancelled":
                raise RefusedError(-32800, "cancelled")
            return self.outcome(entry)
        task = self.step(entry)
        if not self.modern:
            return task
        if task["status"] == "input_required":
            task["inputRequests"] = entry["plan"]["asks"]
        elif task["status"] == "failed":
            task["error"] = {"code": -32050, "message": "it failed", "data": {"why": "planned"}}
        elif task["status"] == "completed":
            task["result"] = self.outcome(entry)
        return self.complete(**task)

    def entry(self) -> Json:
        """Return the skill's entry, as the files were at first."""
        matter = {"name": "pdf", "description": "Fill forms", "metadata": {"level": "1"}}
        resources = [
            {"uri": uri, "digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(), "size": len(text.encode())}
            for uri, text in FILES.items()
        ]
        return {"uri": SKILL, "frontmatter": matter, "resources": resources}


class RefusedError(Exception):
    """An error as the answer."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        """Build the error object."""
        super().__init__(message)
        self.body: Json = {"code": code, "message": message}
        if data is not None:
            self.body["data"] = data


def stdio(talker: Talker) -> None:
    """Serve over stdio: each request in a thread of its own."""
    lock = threading.Lock()

    def out(message: Json) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode() + b"\n"
        with lock:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    talker.aside.append(out)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" in message and "method" in message:
            threading.Thread(target=exiting, args=(talker, message, out), daemon=True).start()
        else:
            talker.take(message, out)


def exiting(talker: Talker, message: Json, out: Out) -> None:
    """Serve one message; a tool may end the whole process."""
    try:
        talker.take(message, out)
    except SystemExit:
        os._exit(7)


class Handler(BaseHTTPRequestHandler):
    """One HTTP request."""

    protocol_version = "HTTP/1.1"
    talker: Talker

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _stream(self) -> Out:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        if not self.talker.modern:
            self.send_header("Mcp-Session-Id", "one")
        self.end_headers()
        self.close_connection = True
        lock = threading.Lock()

        def out(message: Json) -> None:
            with lock, contextlib.suppress(OSError):
                self.wfile.write(b"data: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n")
                self.wfile.flush()

        return out

    def do_POST(self) -> None:
        """Take one message."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" in message and "method" in message:
            if message["method"] == "server/discover" and not self.talker.modern:
                self.send_response(400)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if message["method"] == "tools/call" and message["params"]["name"] == "mismatch":
                self._mismatch(message)
                return
            exiting(self.talker, message, self._stream())
        else:
            self.talker.take(message, lambda _: None)
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _mismatch(self, message: Json) -> None:
        """Refuse once for the headers, as long as the tools were not listed again."""
        if self.talker.listed < int(message["params"]["arguments"]["after"]):
            body = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32020, "message": "header mismatch"}}
            status = 400
        else:
            found = {"listed": self.talker.listed}
            body = {"jsonrpc": "2.0", "id": message["id"], "result": self.talker.complete(structuredContent=found)}
            status = 200
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        """Hold the standalone stream of the older eras until it is dropped."""
        if self.talker.modern:
            self.send_error(405)
            return
        out = self._stream()
        with self.talker.changed:
            self.talker.aside.append(out)
            self.talker.changed.notify_all()
        while out in self.talker.aside:
            time.sleep(0.01)

    def do_DELETE(self) -> None:
        """End the session."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 256
    daemon_threads = True


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--modern", action="store_true")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--http", action="store_true")
    talker = Talker(parser.parse_args())
    if not talker.options.http:
        stdio(talker)
        return
    Handler.talker = talker
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    end_with_parent()
    server.serve_forever()


if __name__ == "__main__":
    main()
