//! The port of a Mesos agent: its state, and the files of its sandboxes.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::clock::now;
use crate::http::deliver::Reply;
use crate::http::{Request, Response};
use crate::plant::Plant;
use crate::world::World;

/// Answers a request to the agent of this number.
pub(crate) fn answer(plant: &Plant, agent: usize, request: &Request) -> Reply {
    plant.record.note(&format!("agent-{agent}"), request, now());
    let trouble = plant.faults.meet("agent", request, now());
    trouble.delay(&plant.faults);
    if let Some((reply, _)) = trouble.instead() {
        return reply;
    }
    let path = request.segments();
    let found = match path.strip_prefix(&["slave(1)"]).unwrap_or(&path) {
        ["state"] | ["state.json"] => plant.change(|world, _, _| Ok(state(world, agent))),
        ["files", what] => {
            let root = plant.change(|world, _, _| {
                let it = &world.agents[agent];
                it.work_dir.join(&it.slave_id)
            });
            files(&root, what.trim_end_matches(".json"), request)
        }
        _ => Err(Response::empty(404)),
    };
    let (Ok(it) | Err(it)) = found;
    trouble.bend(it)
}

/// Running executors and ended ones, each with its sandbox.
fn state(world: &World, agent: usize) -> Response {
    let executor = |id: &str, directory: &Path| {
        json!({
            "id": id, "name": "", "source": id, "container": id,
            "directory": directory.display().to_string(), "resources": {}, "tasks": [],
            "completed_tasks": [], "queued_tasks": [],
        })
    };
    let tasks = world.tasks.values().filter(|it| it.agent == agent);
    let live: Vec<Value> = tasks.map(|it| executor(&it.id, &it.sandbox)).collect();
    let ended = |own: bool| -> Vec<Value> {
        let here = world.archive.iter().filter(|it| it.agent == agent);
        here.filter(|it| (it.framework_id == world.framework_id) == own)
            .map(|it| executor(&it.id, &it.sandbox))
            .collect()
    };
    let framework = |id: &str, executors: Vec<Value>, completed: Vec<Value>| {
        json!({
            "id": id, "name": "marathon", "role": "*", "user": "root", "hostname": "",
            "executors": executors, "completed_executors": completed,
        })
    };
    let it = &world.agents[agent];
    let older = ended(false);
    let mut completed = Vec::new();
    if !older.is_empty() {
        completed.push(framework("completed", Vec::new(), older));
    }
    let frameworks = [framework(&world.framework_id, live, ended(true))];
    let pid = format!("slave(1)@{}:{}", it.host, it.port);
    Response::json(
        200,
        &json!({
            "id": it.slave_id, "hostname": it.host, "pid": pid,
            "version": "1.11.0", "start_time": 0.0, "attributes": {}, "flags": {
                "work_dir": it.work_dir.display().to_string(), "port": it.port.to_string(),
            },
            "frameworks": frameworks, "completed_frameworks": completed,
        }),
    )
}

fn files(root: &Path, what: &str, request: &Request) -> Result<Response, Response> {
    let given = request
        .param("path")
        .ok_or_else(|| Response::text(400, "text/plain", "Expecting 'path=value' in query.\n"))?;
    let path = inside(root, given)?;
    match what {
        "browse" => browse(&path, given),
        "download" => download(&path),
        "read" => read(&path, request),
        _ => Err(Response::empty(404)),
    }
}

/// The path itself, if it lies under the agent's folder; nobody reads anything else.
fn inside(root: &Path, given: &str) -> Result<PathBuf, Response> {
    let missing = |_| Response::empty(404);
    let (path, root) =
        (fs::canonicalize(given).map_err(missing)?, fs::canonicalize(root).map_err(missing)?);
    if path.starts_with(root) { Ok(path) } else { Err(Response::empty(404)) }
}

fn browse(path: &Path, given: &str) -> Result<Response, Response> {
    if !path.is_dir() {
        return Err(Response::empty(404));
    }
    let mut rows = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        let name = entry.file_name();
        rows.push(json!({
            "path": format!("{}/{}", given.trim_end_matches('/'), name.to_string_lossy()),
            "nlink": data.nlink(), "size": data.len(), "mtime": data.mtime() as f64,
            "mode": mode(&data), "uid": user(data.uid()), "gid": user(data.gid()),
        }));
    }
    rows.sort_by_key(|it| it["path"].as_str().map(str::to_owned));
    Ok(Response::json(200, &json!(rows)))
}

/// As `ls -l` writes it.
fn mode(data: &fs::Metadata) -> String {
    let mut out = String::from(if data.is_dir() { "d" } else { "-" });
    for shift in [6, 3, 0] {
        let bits = (data.mode() >> shift) & 7;
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            out.push(if bits & bit == 0 { '-' } else { letter });
        }
    }
    out
}

/// Agents print names; a number without one stays a number.
fn user(id: u32) -> String {
    if id == 0 { "root".to_owned() } else { id.to_string() }
}

fn download(path: &Path) -> Result<Response, Response> {
    let bytes = fs::read(path).map_err(|_| Response::empty(404))?;
    let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Response::text(200, "application/octet-stream", bytes)
        .with("Content-Disposition", format!("attachment; filename={name}")))
}

/// Without an offset: how long the file is, and nothing of it.
fn read(path: &Path, request: &Request) -> Result<Response, Response> {
    let number = |name: &str| request.param(name).and_then(|it| it.parse::<i64>().ok());
    let mut file = fs::File::open(path).map_err(|_| Response::empty(404))?;
    let size = file.metadata().map(|it| it.len()).unwrap_or(0);
    let Some(offset) = number("offset").and_then(|it| u64::try_from(it).ok()) else {
        return Ok(Response::json(200, &json!({ "data": "", "offset": size })));
    };
    let length = number("length").and_then(|it| u64::try_from(it).ok()).unwrap_or(size);
    let mut bytes = Vec::new();
    let read =
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.take(length).read_to_end(&mut bytes));
    read.map_err(|_| Response::empty(500))?;
    let data = String::from_utf8_lossy(&bytes);
    Ok(Response::json(200, &json!({ "data": data, "offset": offset })))
}
