"""Makes every call of PyPI's marathon 0.13.0 against the stand-in: calls.py URL GENERATION."""

import collections
import collections.abc

# The library is older than Python 3.10, which took this name away.
collections.Iterable = collections.abc.Iterable

import logging
import sys
import threading
import time

from marathon import MarathonClient
from marathon.exceptions import ConflictError, InternalServerError, MarathonHttpError, NotFoundError
from marathon.models import MarathonApp, MarathonGroup, MarathonHealthCheck

logging.disable(logging.CRITICAL)
url, generation = sys.argv[1:]
client = MarathonClient(url, timeout=10)
calls = set()


def call(name, *args, **named):
    calls.add(name)
    return getattr(client, name)(*args, **named)


def refused(error, name, *args, **named):
    try:
        call(name, *args, **named)
    except error as why:
        return why
    raise AssertionError(f"{name} was not refused")


def until(what, limit=15):
    end = time.time() + limit
    while time.time() < end:
        if it := what():
            return it
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def settle():
    until(lambda: not call("list_deployments"))


def sleeper(**more):
    return MarathonApp(cmd="exec sleep 1000", mem=32, cpus=0.1, **more)


assert b"pong" in call("ping")
info = call("get_info")
assert info.framework_id and info.elected and info.http_config.http_port
leader = call("get_leader")["leader"]
assert url.endswith(leader)
assert "gauges" in call("get_metrics")

events = []


def listen():
    for event in call("event_stream"):
        events.append(event)


threading.Thread(target=listen, daemon=True).start()
# The library hands events on in blocks of 512 bytes: they are looked at in the end.

# Apps.
check = MarathonHealthCheck(path="/", protocol="HTTP", port_index=0, interval_seconds=1,
                            grace_period_seconds=100, timeout_seconds=5, max_consecutive_failures=3)
web = MarathonApp(cmd="exec python3 -m http.server --bind $HOST $PORT0", mem=64, cpus=0.1,
                  instances=1, health_checks=[check], labels={"k": "v"})
made = call("create_app", "web", web)
assert made.id == "/web" and made.deployments
assert call("list_deployments")[0].affected_apps == ["/web"]
settle()
refused(ConflictError, "create_app", "web", sleeper())
call("create_app", "/g/a", sleeper(instances=2))
settle()
assert [it.id for it in call("list_apps")] == ["/g/a", "/web"]
assert [it.id for it in call("list_apps", label="k==v")] == ["/web"]
assert [it.id for it in call("list_apps", cmd="sleep", app_id="/g")] == ["/g/a"]
every = call("list_apps", embed_tasks=True, embed_counts=True, embed_deployments=True,
             embed_readiness=True, embed_last_task_failure=True, embed_failures=True,
             embed_task_stats=True)
assert every[1].tasks_healthy == 1 and every[1].tasks[0].health_check_results[0].alive
app = call("get_app", "web", embed_tasks=True, embed_task_stats=True)
assert app.tasks[0].host.startswith("127.0.0.") and app.health_checks[0].interval_seconds == 1
refused(NotFoundError, "get_app", "nobody")

# Tasks.
def running():
    tasks = call("list_tasks", "/g/a")
    return [it for it in tasks if it.started_at and it.state == "TASK_RUNNING"]


assert len(call("list_tasks")) == 3
assert len(call("list_tasks", "web")) == 1
assert all(it.host and it.task_id for it in call("list_endpoints"))
tasks = call("list_tasks", "/g/a")
killed = call("kill_task", "/g/a", tasks[0].id)
assert killed.id == tasks[0].id
others = lambda: [it for it in call("list_tasks", "/g/a") if it.started_at and it.id != killed.id]
until(lambda: len(others()) == 2)
assert "deploymentId" in call("kill_task", "/g/a", others()[0].id, scale=True)
settle()
assert call("get_app", "/g/a").instances == 1
assert len(call("kill_tasks", "/g/a")) == 1
until(running)
assert call("kill_given_tasks", [it.id for it in call("list_tasks", "/g/a")])
until(running)
assert "deploymentId" in call("kill_tasks", "/g/a", scale=True, host="127.0.0.9")

# Changes and versions.
assert "deploymentId" in call("scale_app", "/g/a", instances=3)
settle()
assert "deploymentId" in call("scale_app", "/g/a", delta=-1, force=True)
settle()
assert len(call("list_tasks", "/g/a")) == 2
versions = call("list_versions", "/g/a")
old = call("get_version", "/g/a", versions[-1])
assert old.cmd == "exec sleep 1000"
call("update_app", "/g/a", MarathonApp(cmd="exec sleep 2000"), force=True)
settle()
call("update_app", "/g/a", call("get_app", "/g/a"), minimal=False)
settle()
call("rollback_app", "/g/a", versions[-1])
settle()
assert call("get_app", "/g/a").cmd == "exec sleep 1000"
call("update_apps", [MarathonApp(id="/g/a", mem=40), MarathonApp(id="/web", labels={"k": "w"})])
settle()
assert call("get_app", "/g/a").mem == 40
call("restart_app", "/g/a")
settle()

# Deployments, one of which cannot end.
call("create_app", "broken", MarathonApp(cmd="exit 3", instances=1, backoff_seconds=100))
until(lambda: call("get_app", "broken", embed_failures=True).last_task_failure)
failure = call("get_app", "broken").last_task_failure
assert failure.message == "Command exited with status 3" and failure.state == "TASK_FAILED"
refused(ConflictError, "scale_app", "broken", instances=2)
if generation == "1.3":
    row = until(lambda: call("list_queue"))[0]
    assert row.app.id == "/broken" and row.count == 1 and row.delay.time_left_seconds > 0
else:
    # The library knows no `role` here and says so with a TypeError; with a real 1.10 too.
    refused(TypeError, "list_queue")
call("reset_delay", "broken")
stuck = call("list_deployments")[0]
assert call("delete_deployment", stuck.id, force=True) == {}
until(lambda: not call("list_deployments"))
call("scale_app", "broken", instances=2)
stuck = call("list_deployments")[0]
assert "deploymentId" in call("delete_deployment", stuck.id)
assert call("get_app", "broken").instances == 1
assert "deploymentId" in call("delete_app", "broken", force=True)
settle()
refused(NotFoundError, "delete_app", "broken")

# Groups.
group = MarathonGroup(id="/team", apps=[MarathonApp(id="one", cmd="exec sleep 1000", mem=32)])
assert call("create_group", group)["deploymentId"]
settle()
assert "/team" in [it.id for it in call("list_groups")]
assert call("get_group", "team").apps[0].id == "/team/one"
changed = MarathonApp(id="one", cmd="exec sleep 2000", mem=32)
call("update_group", "team", MarathonGroup(apps=[changed]))
settle()
call("scale_group", "team", 2)
settle()
assert call("get_app", "team/one").instances == 2
call("delete_group", "team")
settle()
refused(NotFoundError, "get_group", "team")

# What the stand-in does not have, and says so.
refused(MarathonHttpError, "rollback_group", "team", versions[-1])
refused(InternalServerError, "list_event_subscriptions")
refused(InternalServerError, "create_event_subscription", "http://127.0.0.1:1/")
refused(InternalServerError, "delete_event_subscription", "http://127.0.0.1:1/")

wanted = {"MarathonDeploymentInfo", "MarathonDeploymentSuccess", "MarathonDeploymentStepSuccess",
          "MarathonStatusUpdateEvent", "MarathonApiPostEvent", "MarathonHealthStatusChangedEvent",
          "MarathonAppTerminatedEvent", "MarathonGroupChangeSuccess"}
until(lambda: wanted <= {type(it).__name__ for it in events})

call("delete_app", "web")
assert call("delete_leader")["message"] == "Leadership abdicated"

every = {it for it in dir(MarathonClient) if not it.startswith("_")}
assert every == calls, f"not called: {every - calls}"
print(f"{len(calls)} calls, all that the client has")
