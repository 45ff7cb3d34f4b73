"""The program through the Python SDK, as a user of that SDK would write it: `client.py SUBJECT ERA SCENE`.

The era is `legacy` (the handshake, 2025-11-25) or `modern` (2026-07-28). What is tried is told by `tests/e2e/clients.rs`,
which makes the scene. It ends with 0, or with the first thing that is not as it should be.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Literal

import anyio
from jsonschema import Draft202012Validator
from mcp import Client, MCPError, StdioServerParameters
from mcp.client import ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, EmptyResult, Request, RequestParams, Result

SUBJECT, ERA = sys.argv[1:3]
SCENE = json.loads(sys.argv[3])

NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


def client(**options: Any) -> Client:
    program = StdioServerParameters(command=SCENE["command"], args=SCENE["args"], env=SCENE["env"])
    mode = "legacy" if ERA == "legacy" else "auto"
    return Client(program, mode=mode, **options)


def check(what: bool, told: Any) -> None:
    if not what:
        raise AssertionError(told)


def problem(result: CallToolResult, code: str) -> None:
    """The error shape of the tool contract."""
    told = result.structured_content
    check(result.is_error and told["error"] is True and told["code"] == code, told)
    check(told["message"] and isinstance(told["details"], dict) and isinstance(told["retryable"], bool), told)
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z", told["timestamp"]), told)
    check(code in result.content[0].text, result.content)


def runs(needle: str) -> bool:
    """Whether a process of this machine, which is also the server's, has this in its command line."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            # `sleep` itself, and not the shell or the client that has it as a word of a longer argument.
            if line.read_bytes().startswith(b"sleep\0" + needle.encode()):
                return True
        except OSError:
            pass
    return False


async def until(what: str, ready: Any) -> None:
    with anyio.move_on_after(20):
        while not ready():
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"still waiting for {what}")


async def run(mcp: Client, cmd: str, **options: Any) -> CallToolResult:
    return await mcp.call_tool("task_exec", {"alias": "box", "cmd": cmd}, **options)


async def tools() -> None:
    async with client() as mcp:
        check(mcp.server_info.name == "mcp-orchestrator", mcp.server_info)
        check(mcp.protocol_version == ("2025-11-25" if ERA == "legacy" else "2026-07-28"), mcp.protocol_version)
        listed = (await mcp.list_tools()).tools
        check({"server_add", "task_exec", "get_system_resources"} <= {tool.name for tool in listed}, listed)
        for tool in listed:
            check(NAME.match(tool.name) and tool.title and tool.description, tool)
            Draft202012Validator.check_schema(tool.input_schema)
            Draft202012Validator.check_schema(tool.output_schema)
        # The SDK holds each result against the output schema, and raises where it does not match.
        added = await mcp.call_tool("server_add", SCENE["server"])
        check(not added.is_error, added)
        said = await run(mcp, "echo hi")
        check(said.structured_content["stdout"] == "hi\n" and "hi" in said.content[0].text, said)
        failed = await run(mcp, "echo no >&2; exit 3")
        check(failed.is_error and failed.structured_content["exit_code"] == 3, failed)
        memory = (await mcp.call_tool("get_system_resources", {"alias": "box"})).structured_content["memory"]
        check(memory["total_bytes"] > 0, memory)
        problem(await mcp.call_tool("task_exec", {"alias": "nowhere", "cmd": "true"}), "SERVER_NOT_FOUND")
        problem(await mcp.call_tool("task_exec", {"alias": "box"}), "INVALID_ARGUMENT")
        try:
            told = await mcp.call_tool("task_exek", {})
        except MCPError as error:
            check(error.code == -32602 and "task_exec" in error.message, error)
        else:
            raise AssertionError(told)


async def progress() -> None:
    steps: list[tuple[float, str | None]] = []

    async def note(done: float, _total: float | None, message: str | None) -> None:
        steps.append((done, message))

    async with client() as mcp:
        await mcp.call_tool("server_add", SCENE["server"])
        await run(mcp, "for i in 1 2 3 4; do echo line $i; sleep 0.7; done", progress_callback=note)
    check(len(steps) > 2 and [step for step, _ in steps] == sorted({step for step, _ in steps}), steps)
    check(any("line 2" in (message or "") for _, message in steps), steps)


async def begin() -> None:
    """Prints the id of a job that was handed over, and stays until it is killed."""
    async with client() as mcp:
        await mcp.call_tool("server_add", SCENE["server"])
        told = (await run(mcp, SCENE["cmd"])).structured_content
        check(told["state"] == "running" and told["next"] == "task_wait", told)
        print(told["id"], flush=True)
        await anyio.sleep_forever()


async def wait() -> None:
    """Waits for the job that another client has begun."""
    async with client() as mcp:
        ended = await mcp.call_tool("task_wait", {"id": SCENE["job"], "timeout": 20})
        told = ended.structured_content
        check(not ended.is_error and told["status"] == "completed", told)
        check("done" in ended.content[0].text, ended)


async def cancel() -> None:
    async with client() as mcp:
        await mcp.call_tool("server_add", SCENE["server"])
        async with anyio.create_task_group() as calls:
            calls.start_soon(run, mcp, f"sleep {SCENE['sleep']}")
            await until("the command to run", lambda: runs(SCENE["sleep"]))
            calls.cancel_scope.cancel()
        await until("the command to be gone", lambda: not runs(SCENE["sleep"]))
        jobs = (await mcp.call_tool("task_history", {"alias": "box"})).structured_content["jobs"]
        ended = await mcp.call_tool("task_wait", {"id": jobs[0]["id"], "timeout": 20})
        check(ended.structured_content["status"] == "cancelled", ended)
        # The session is as good as before.
        check((await run(mcp, "echo hi")).structured_content["stdout"] == "hi\n", "after the cancellation")


async def ask() -> None:
    """The SDK asks its user about a host key, in both eras through the same callback."""
    asked: list[str] = []
    answers = [ElicitResult(action="decline"), ElicitResult(action="accept", content={"trust": True})]

    async def answer(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        check(params.mode == "form" and "trust" in params.requested_schema["properties"], params)
        return answers[len(asked) - 1]

    async with client(elicitation_callback=answer) as mcp:
        await mcp.call_tool("server_add", SCENE["server"])
        problem(await run(mcp, "echo in"), "HOST_KEY_UNKNOWN")
        check((await run(mcp, "echo in")).structured_content["stdout"] == "in\n", asked)
        await run(mcp, "echo in")
    check(len(asked) == 2 and all(SCENE["fingerprint"] in message for message in asked), asked)


class Created(Result):
    """What a call is answered with that has become a task."""

    result_type: Literal["task"]
    task_id: str
    status: str
    poll_interval_ms: int


class Named(RequestParams):
    task_id: str


class GetTask(Request[Named, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"


class CancelTask(Request[Named, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"


class Task(Result):
    task_id: str
    status: str
    poll_interval_ms: int | None = None
    result: CallToolResult | None = None


async def settled(session: Any, created: Created) -> Task:
    """Asks as often as the program wants to be asked, until the task is at its end."""
    while True:
        request = GetTask(params=Named(task_id=created.task_id))
        task = await session.send_request(request, Task)
        if task.status != "working":
            return task
        await anyio.sleep(task.poll_interval_ms / 1000)


class Tasks(ClientExtension):
    """The SDK has no Tasks of its own, but the place for them: who brings the shapes gets results as if there were none."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def resolve(self, created: Created, context: Any) -> CallToolResult:
        self.seen.append(created.task_id)
        return (await settled(context.session, created)).result

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Created, resolve=self.resolve)]


async def tasks() -> None:
    extension = Tasks()
    async with client(extensions=[extension]) as mcp:
        await mcp.call_tool("server_add", SCENE["server"])
        long = await run(mcp, "sleep 2; echo done")
        check(long.structured_content["stdout"] == "done\n", long)
        check(extension.seen == [long.structured_content["id"]], extension.seen)
        check((await run(mcp, "echo hi")).structured_content["stdout"] == "hi\n" and len(extension.seen) == 1, "a short one")
        cmd = {"alias": "box", "cmd": f"sleep {SCENE['sleep']}"}
        created = await mcp.session.call_tool("task_exec", cmd, allow_claimed=True)
        check(isinstance(created, Created) and created.status == "working", created)
        await until("the command to run", lambda: runs(SCENE["sleep"]))
        await mcp.session.send_request(CancelTask(params=Named(task_id=created.task_id)), EmptyResult)
        check((await settled(mcp.session, created)).status == "cancelled", created)
        await until("the command to be gone", lambda: not runs(SCENE["sleep"]))


SUBJECTS = {subject.__name__: subject for subject in (tools, progress, begin, wait, cancel, ask, tasks)}
anyio.run(SUBJECTS[SUBJECT])
