"""Background tasks of both eras: driven inside the call, or left to the host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.answers import Json
from tests.harness import Sidecar
from tests.talk.host import ELICIT, asked, cancelled, found, heard, reply, talker

KINDS = ("stdio", "http", "stdio-modern", "http-modern")
EVERYWHERE = pytest.mark.parametrize("transport", KINDS, indirect=True)
ADA = {"action": "accept", "content": {"name": "Ada"}}


def start(host: Sidecar, at: str, plan: Json, **more: Any) -> Any:
    """Call the tool that runs in the background; the older era must be asked for it."""
    modern = host.call("servers/get", {"server": at}).result["era"] == "modern"
    task: Json = {} if modern else {"task": {"ttl": 60_000}}
    return host.start_tool(at, "background", plan, **task, **more)


@EVERYWHERE
def test_task_is_driven_to_its_end_inside_the_call(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    assert found(host.answer(start(host, at, {"polls": 3})))["got"] is None
    data = host.answer(start(host, at, {"end": "failed"})).is_error(1501, delivered="yes")
    assert data["remote"] == {"code": -32050, "message": "it failed", "data": {"why": "planned"}}
    host.answer(start(host, at, {"end": "cancelled"})).is_error(1004)
    assert host.tool(at, "echo").result


@EVERYWHERE
def test_input_that_a_task_asks_for_goes_to_the_same_handlers(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    key = start(host, at, {"asks": {"who": ELICIT}}, timeoutMs=30_000)
    request = asked(host, "elicitation/create", at)[-1]
    assert request["params"]["requestId"] == key
    assert request["params"]["timeoutMs"] <= 30_000
    reply(host, request, ADA)
    got = found(host.answer(key))["got"]["who"]
    assert got in (ADA, {"result": ADA})


@EVERYWHERE
def test_detached_task_is_the_hosts_to_watch_and_its_result_is_the_calls(
    host: Sidecar, at: str, transport: Json
) -> None:
    host.connect(at, transport)
    task = host.tool(at, "background", {"polls": 2}, detach=True).result
    assert task["status"] == "working"
    name = task["taskId"]
    assert host.call("tasks/get", {"server": at, "taskId": name}).result["status"] == "working"
    assert host.call("tasks/result", {"server": at, "taskId": name}).result["structuredContent"]["got"] is None
    failing = host.tool(at, "background", {"end": "failed", "polls": 0}, detach=True).result["taskId"]
    host.call("tasks/result", {"server": at, "taskId": failing}).is_error(1501)
    asking = host.tool(at, "background", {"polls": 0, "asks": {"who": ELICIT}}, detach=True).result["taskId"]
    key = host.request("tasks/result", {"server": at, "taskId": asking})
    request = asked(host, "elicitation/create", at)[-1]
    assert request["params"]["requestId"] == key
    reply(host, request, ADA)
    assert host.answer(key).result["structuredContent"]["got"]


@EVERYWHERE
def test_cancelled_task_is_1004_for_who_waits_for_it(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    name = host.tool(at, "background", {"end": "never"}, detach=True).result["taskId"]
    key = host.request("tasks/result", {"server": at, "taskId": name})
    assert host.tool(at, "await", {"method": "tasks/get"}).result
    assert host.call("tasks/cancel", {"server": at, "taskId": name}).result is not None
    host.answer(key).is_error(1004)
    assert host.tool(at, "echo").result


@EVERYWHERE
def test_task_that_never_ends_is_cancelled_at_the_deadline(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    before = len(heard(host, at, "tasks/cancel"))
    host.answer(start(host, at, {"end": "never"}, timeoutMs=400)).is_error(1005, phase="wait", delivered="maybe")
    assert host.tool(at, "await", {"method": "tasks/cancel", "count": before + 1}).result
    key = start(host, at, {"asks": {"who": ELICIT}})
    request = asked(host, "elicitation/create", at)[-1]
    host.cancel(key)
    host.answer(key).is_error(1004)
    cancelled(host, request)
    assert host.tool(at, "await", {"method": "tasks/cancel", "count": before + 2}).result


def test_status_that_a_server_tells_is_told_under_one_name(host: Sidecar, at: str, http: Any) -> None:
    host.connect(at, http.http())
    for theirs in ("notifications/tasks/status", "notifications/tasks"):
        task: Json = {"taskId": theirs, "status": "working", "ttl": None}
        told = {"method": theirs, "params": task}
        assert host.tool(at, "notify", {"notices": [told]}).result
        params = host.wait_told("notifications/tasks", lambda params, name=theirs: params["taskId"] == name)  # type: ignore[misc]  # lambda
        assert params == {"server": at, "scope": {}, **task}


def test_tool_that_answers_at_once_gives_its_result_and_detach_is_for_calls(host: Sidecar, at: str, http: Any) -> None:
    host.connect(at, http.http())
    assert found(host.tool(at, "echo", {"a": 1}, detach=True)) == {"a": 1}
    host.call("tools/list", {"server": at, "detach": True}).is_error(-32602, path="/detach")
    host.call("tasks/get", {"server": at}).is_error(-32602, path="/taskId")
    host.call("tasks/get", {"server": at, "taskId": "no"}).is_error(1501)


def test_server_without_tasks_has_none(host: Sidecar, at: str) -> None:
    host.connect(at, talker("--silent"))
    host.call("tasks/get", {"server": at, "taskId": "t"}).is_error(1505, capability="tasks", delivered="no")
    host.call("skills/list", {"server": at}).is_error(1505, capability="skills")


@pytest.mark.parametrize("transport", ["stdio"], indirect=True)
def test_progress_of_a_call_goes_on_while_its_task_runs(host: Sidecar, at: str, transport: Json) -> None:
    host.connect(at, transport)
    key = start(host, at, {"polls": 3}, progress=True)
    assert host.answer(key).result
    steps = [params["progress"] for params in host.told("notifications/progress") if params["requestId"] == key]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("transport", ["stdio-modern", "http-modern"], indirect=True)
def test_status_of_a_detached_task_is_listened_for_on_a_modern_connection(
    host: Sidecar, at: str, transport: Json
) -> None:
    host.connect(at, transport)
    name = host.tool(at, "background", {"end": "never"}, detach=True).result["taskId"]
    assert host.tool(at, "await-task", {"taskId": name}).result
    status = {"taskId": name, "status": "completed"}
    assert host.tool(at, "emit", {"notices": [{"method": "notifications/tasks", "params": status}]}).result
    told = host.wait_told("notifications/tasks", lambda params: params.get("taskId") == name)
    assert (told["server"], told["status"]) == (at, "completed")
