//! The rules that rustc and clippy do not know. One test, no tools to install.

use std::fs;
use std::path::{Path, PathBuf};

/// Which room may name which. A folder under `src` that is not listed here is itself a fault.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("wire", &["base"]),
    ("core", &["base"]),
    ("exchange", &["base", "wire", "core"]),
    ("mesh", &["base", "core"]),
    ("api", &["base", "wire", "core", "mesh"]),
    ("shard", &["base", "wire", "core", "exchange", "mesh"]),
    ("control", &["base", "wire", "core", "exchange", "mesh"]),
    ("config", &["base", "core"]),
    ("cmd", &["base", "wire", "core", "exchange", "mesh", "api", "shard", "control", "config"]),
];

/// Rooms that must stay free of the outside world, and the words that would let it in.
const PURE: &[&str] = &["base", "wire", "core", "exchange"];
const OUTSIDE: &[&str] = &[
    "glommio",
    "tokio",
    "io_uring",
    "libc",
    "ureq",
    "async ",
    ".await",
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "std::os",
    "tracing",
    "log::",
    "rand::",
    "println!",
];

/// Where `unsafe` may stand, each with its SAFETY.
const UNSAFE: &[&str] = &["src/shard/engine/", "src/control/schedule/process.rs"];

/// Longest function, in lines.
const FN_LINES: usize = 70;
const FILE_LINES: usize = 600;
const COLUMNS: usize = 100;

#[test]
fn tidy() {
    let mut faults = Vec::new();
    for path in sources(Path::new("src")) {
        let text = fs::read_to_string(&path).expect("source is readable");
        faults.extend(judge(&path, &text));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Each rule catches the sin it was written for.
#[test]
fn tidy_catches_planted_faults() {
    let planted = [
        ("src/core/a.rs", "//! x\nuse crate::shard::X;\n", "may not name `shard`"),
        ("src/core/a.rs", "//! x\nuse crate::{shard::X, control::Y};\n", "write the path out"),
        ("src/core/a.rs", "//! x\nuse super::super::control::Y;\n", "write the path out"),
        ("src/shard/a.rs", "//! x\nuse crate::control::Y;\n", "may not name `control`"),
        ("src/attic/a.rs", "//! x\n", "no listed room"),
        ("src/exchange/a.rs", "//! x\nlet p = std::process::id();\n", "is pure"),
        ("src/wire/a.rs", "fn f() {}\n", "say in `//!`"),
        ("src/control/a.rs", "//! x\nunsafe { f() }\n", "no `unsafe`"),
        ("src/core/a.rs", "//! x\nlet x = y.unwrap();\n", "say why it holds"),
        ("src/core/a.rs", "//! x\n#[allow(dead_code)]\n", "expect it"),
    ];
    for (path, text, expected) in planted {
        let faults = judge(Path::new(path), text);
        assert!(faults.iter().any(|it| it.contains(expected)), "{path}: {expected} not caught");
    }
    let long = format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(FN_LINES));
    assert!(judge(Path::new("src/core/a.rs"), &long).iter().any(|it| it.contains("function of")));
}

/// All faults of one file.
fn judge(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let room = path
        .components()
        .nth(1)
        .and_then(|it| it.as_os_str().to_str())
        .unwrap_or_default()
        .to_owned();
    header(path, text, &mut faults);
    arrows(path, &room, text, &mut faults);
    purity(path, &room, text, &mut faults);
    words(path, text, &mut faults);
    sizes(path, text, &mut faults);
    faults
}

fn header(path: &Path, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") && !text.starts_with("#![doc") {
        faults.push(format!("{}:1: say in `//!` what this file is", path.display()));
    }
}

fn arrows(path: &Path, room: &str, text: &str, faults: &mut Vec<String>) {
    if path.components().count() < 3 {
        return; // lib.rs and main.rs assemble, and may name every room
    }
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == room) else {
        faults.push(format!("{}: `{room}` is no listed room", path.display()));
        return;
    };
    for (at, line) in code(text) {
        // Forms that would hide an arrow from the search below.
        for form in ["crate::{", "super::super"].iter().filter(|it| line.contains(**it)) {
            faults.push(format!("{}:{at}: write the path out, no `{form}`", path.display()));
        }
        for target in line
            .split("crate::")
            .skip(1)
            .filter_map(|rest| rest.split(&[':', ';', ',', ' ', '(']).next())
        {
            if target != room
                && MAY_NAME.iter().any(|(name, _)| *name == target)
                && !allowed.contains(&target)
            {
                faults.push(format!("{}:{at}: `{room}` may not name `{target}`", path.display()));
            }
        }
    }
}

fn purity(path: &Path, room: &str, text: &str, faults: &mut Vec<String>) {
    if !PURE.contains(&room) {
        return;
    }
    // One type of `base` owns a descriptor, and does nothing with it.
    if is_test(path) || path.ends_with("src/base/socket.rs") {
        return;
    }
    let tests_begin = |line: &str| line.contains("#[cfg(test)]") || line.contains("#[cfg(all(test");
    for (at, line) in code(text).take_while(|(_, line)| !tests_begin(line)) {
        // Whether a thread unwinds is no news of the outside world.
        let line = line.replace("std::thread::panicking", "");
        for word in OUTSIDE.iter().filter(|it| names(&line, it)) {
            faults.push(format!(
                "{}:{at}: `{room}` is pure; no `{}` here",
                path.display(),
                word.trim()
            ));
        }
    }
}

/// Whether the line says this word, and not merely a longer one that begins like it.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let next = line[at + word.len()..].chars().next();
        !word.ends_with(char::is_alphabetic)
            || !next.is_some_and(|it| it.is_alphanumeric() || it == '_')
    })
}

fn is_test(path: &Path) -> bool {
    let place = path.to_string_lossy();
    ["tests", "fixture", "model.rs", "kpa.rs"].iter().any(|it| place.contains(it))
}

/// Words that need a place or a reason.
fn words(path: &Path, text: &str, faults: &mut Vec<String>) {
    let place = path.to_string_lossy();
    let is_test = is_test(path);
    let mut in_tests = false;
    for (at, line) in code(text) {
        in_tests |= line.contains("#[cfg(test)]");
        let word = |word: &str| {
            line.split(|it: char| !it.is_alphanumeric() && it != '_').any(|it| it == word)
        };
        if word("unsafe") && !UNSAFE.iter().any(|it| place.starts_with(it)) {
            faults.push(format!("{place}:{at}: no `unsafe` here"));
        }
        if line.contains(".unwrap()") && !is_test && !in_tests {
            faults.push(format!("{place}:{at}: say why it holds with `expect`, or return a fault"));
        }
        if line.contains("#[allow(") {
            faults.push(format!("{place}:{at}: expect it, with a reason"));
        }
    }
    for (at, line) in text.lines().enumerate().filter(|(_, it)| it.chars().count() > COLUMNS) {
        let width = line.chars().count();
        faults.push(format!("{place}:{}: {width} columns; {COLUMNS} is the limit", at + 1));
    }
}

fn sizes(path: &Path, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES {
        faults.push(format!("{}: {lines} lines; a file has at most {FILE_LINES}", path.display()));
    }
    let mut open: Option<(usize, usize)> = None;
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line
            .trim_start()
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("async ");
        match open {
            None if head.starts_with("fn ") => open = Some((at, indent)),
            Some((from, depth)) if indent == depth && line.trim_start().starts_with('}') => {
                if at - from + 1 > FN_LINES {
                    faults.push(format!(
                        "{}:{}: function of {} lines; {FN_LINES} is the limit",
                        path.display(),
                        from + 1,
                        at - from + 1
                    ));
                }
                open = None;
            }
            _ => {}
        }
    }
}

/// Lines that are code, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).expect("folder is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
