//! Every request that was received, so that a test can say what was asked.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::clock::{Ms, iso};
use crate::http::Request;

/// Rows that are kept; older ones go.
const ROWS: usize = 20_000;
/// So much of a body is kept.
const BODY_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Record {
    began: Ms,
    /// Written by every connection, read by the fault port.
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    kept: Vec<Row>,
    seen: u64,
}

#[derive(Debug)]
struct Row {
    number: u64,
    to: String,
    method: String,
    uri: String,
    at: Ms,
    body: String,
    user_agent: Option<String>,
}

impl Record {
    pub(crate) fn new(began: Ms) -> Self {
        Self { began, rows: Mutex::new(Rows::default()) }
    }

    /// `to` says which port: `api`, `standby-1`, `agent-0`.
    pub(crate) fn note(&self, to: &str, request: &Request, at: Ms) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.seen += 1;
        if rows.kept.len() == ROWS {
            rows.kept.drain(..ROWS / 2);
        }
        let number = rows.seen;
        let body = &request.body[..request.body.len().min(BODY_BYTES)];
        rows.kept.push(Row {
            number,
            to: to.to_owned(),
            method: request.method.clone(),
            uri: request.uri.clone(),
            at,
            body: String::from_utf8_lossy(body).into_owned(),
            user_agent: request.header("user-agent").map(str::to_owned),
        });
    }

    pub(crate) fn clear(&self) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).kept.clear();
    }

    /// `number` counts from 1 and goes on when the rows are cleared.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |it: &Row| {
            json!({
                "number": it.number, "to": it.to, "method": it.method, "uri": it.uri,
                "time": iso(it.at), "ms": it.at - self.began, "body": it.body,
                "userAgent": it.user_agent,
            })
        };
        json!({ "requests": rows.kept.iter().map(row).collect::<Vec<_>>() })
    }
}
